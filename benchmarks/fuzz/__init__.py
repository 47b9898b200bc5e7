"""Files broken on purpose, by the thousand: does each become a scan, or an error of ours that names it?"""
