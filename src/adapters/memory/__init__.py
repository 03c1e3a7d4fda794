"""Every port without a server, a file or a key: for tests, trials and programs that embed the core.

They keep the same promises as the others, under the same contract suites; what they hold goes with the process.
"""
