"""Files to arrays: scans, the layouts of folders, splits by subject, the decoded cache. Pillow lives here alone."""
