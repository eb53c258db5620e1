def write_report(workdir):
    return workdir
