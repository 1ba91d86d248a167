"""``python -m kdtui``: the same as the ``kdtui`` command."""

from kdtui.processes import forget_working_folder

if __name__ == "__main__":
    forget_working_folder(run_as_module=True)
    from kdtui.cli.door import main

    main()
