package rdb

// MinVersion is the oldest RDB version in which a server writes values of type
// typ, or 0 of a type that is not known. What values of a type look like does
// not change from there on, so that a payload may carry it in place of its
// file's: RESTORE refuses a later version than its own whatever the type.
func MinVersion(typ byte) int {
	switch typ {
	case TypeString, TypeList, TypeSet, TypeZSet, TypeHash:
		return 1
	case TypeHashZipmap, TypeListZiplist, TypeSetIntset, TypeZSetZiplist:
		return 2
	case TypeHashZiplist:
		return 4
	case TypeListQuicklist:
		return 7
	case TypeZSet2, TypeModule2:
		return 8
	case TypeStreamListpacks:
		return 9
	case TypeHashListpack, TypeZSetListpack, TypeListQuicklist2, TypeStreamListpacks2, opFunction2:
		return 10
	case TypeSetListpack, TypeStreamListpacks3:
		return 11
	case TypeHashFieldTTLPacked0, TypeHashFieldTTL, TypeHashFieldTTLPacked:
		return 12
	case TypeHashValkey:
		return valkeyVersion
	}
	return 0
}

// oldestVersion is what Options.OldestVersion stamps: not below what Redis 2.6 to
// 3.0 write, for they take no other.
func oldestVersion(typ byte, file int) int {
	if v := MinVersion(typ); v > 0 {
		return min(max(v, oldestRestore), file)
	}
	return file
}

// oldestRestore is the RDB version of the first servers that have RESTORE.
const oldestRestore = 6

// RestoreVersion is the highest RDB version that RESTORE takes on a Redis of this
// version: what to expect, for a fork may differ. 0 is not known.
func RestoreVersion(major, minor int) int {
	for _, v := range []struct{ major, minor, rdb int }{
		{8, 0, 12}, {7, 4, 12}, {7, 2, 11}, {7, 0, 10}, {5, 0, 9}, {4, 0, 8}, {3, 2, 7}, {2, 6, 6},
	} {
		if major > v.major || major == v.major && minor >= v.minor {
			return v.rdb
		}
	}
	return 0
}
