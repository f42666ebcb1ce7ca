"""The addresses of jobs, over HTTP."""




def test_a_clip_is_made_looked_at_downloaded_and_deleted(running):
    job = running.made(prompt="a red ball bounces", seed=3)
    assert (job["object"], job["progress"], job["kind"], job["size"]) == ("video", 100, "video", "16x16")
    assert job["seed"] == 3 and job["metadata"]["prompt"] == "a red ball bounces"
    assert job["seconds"] == "2.125" and job["completed_at"] >= job["created_at"]
    content = running.client.get(f"/v1/videos/{job['id']}/content")
    assert content.headers["content-type"] == "video/mp4" and content.content[4:8] == b"ftyp"
    for variant in ("thumbnail", "spritesheet"):
        picture = running.client.get(f"/v1/videos/{job['id']}/content", params={"variant": variant})
        assert picture.content.startswith(b"\x89PNG")
    deleted = running.client.delete(f"/v1/videos/{job['id']}").json()
    assert deleted == {"id": job["id"], "object": "video.deleted", "deleted": True}
    assert running.client.get(f"/v1/videos/{job['id']}").status_code == 404
    assert running.client.delete(f"/v1/videos/{job['id']}").status_code == 404
    assert not running.storage.of_job(job["id"]).exists()
