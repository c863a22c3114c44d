"""The command line: one file per command group. These files parse and print; what is done is decided elsewhere.

main       the app, exit codes, how errors are shown
options    options that several commands share
targets    which targets and kernels the words on the command line mean
show       tables, JSON and numbers on stdout
progress   bars with time left on stderr

Nothing heavy is imported at the top of these files: `kgen --help` imports all of them.
"""
