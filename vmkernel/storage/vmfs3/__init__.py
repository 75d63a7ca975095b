"""VMFS3, the cluster file system of ESX Server 3: volumes on LUNs, their files, directories, locks and journals."""
