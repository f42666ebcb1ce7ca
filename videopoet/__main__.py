from videopoet.cli import main

main()
