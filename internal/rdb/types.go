package rdb

import "strconv"

// Types of values, as rdb.h numbers them.
const (
	TypeString           = 0
	TypeList             = 1
	TypeSet              = 2
	TypeZSet             = 3 // scores as text
	TypeHash             = 4
	TypeZSet2            = 5 // scores as binary doubles, since 4.0
	TypeModulePreGA      = 6 // release candidates of 4.0; only the module knows its length
	TypeModule2          = 7
	TypeHashZipmap       = 9
	TypeListZiplist      = 10
	TypeSetIntset        = 11
	TypeZSetZiplist      = 12
	TypeHashZiplist      = 13
	TypeListQuicklist    = 14
	TypeStreamListpacks  = 15
	TypeHashListpack     = 16
	TypeZSetListpack     = 17
	TypeListQuicklist2   = 18
	TypeStreamListpacks2 = 19
	TypeSetListpack      = 20
	TypeStreamListpacks3 = 21
	// Hashes with deadlines of fields.
	TypeHashValkey          = 22 // since Valkey 9
	TypeHashFieldTTLPacked0 = 23 // release candidates of Redis 7.4
	TypeHashFieldTTL        = 24 // since Redis 7.4
	TypeHashFieldTTLPacked  = 25
)

// Opcodes: what may stand in a file where a type stands too.
const (
	opSlotInfo      = 244
	opFunction2     = 245
	opFunctionPreGA = 246
	opModuleAux     = 247
	opIdle          = 248
	opFreq          = 249
	opAux           = 250
	opResizeDB      = 251
	opExpireMS      = 252
	opExpire        = 253
	opSelectDB      = 254
	opEOF           = 255
)

// Parts of a module's value.
const (
	moduleEOF    = 0
	moduleSInt   = 1
	moduleUInt   = 2
	moduleFloat  = 3
	moduleDouble = 4
	moduleString = 5
)

var typeNames = [256]string{
	TypeString: "string", TypeList: "list", TypeSet: "set", TypeZSet: "zset", TypeHash: "hash", TypeZSet2: "zset2",
	TypeModulePreGA: "module of a 4.0 release candidate", TypeModule2: "module", TypeHashZipmap: "hash zipmap",
	TypeListZiplist: "list ziplist", TypeSetIntset: "set intset", TypeZSetZiplist: "zset ziplist",
	TypeHashZiplist: "hash ziplist", TypeListQuicklist: "list quicklist", TypeStreamListpacks: "stream",
	TypeHashListpack: "hash listpack", TypeZSetListpack: "zset listpack", TypeListQuicklist2: "list quicklist2",
	TypeStreamListpacks2: "stream2", TypeSetListpack: "set listpack", TypeStreamListpacks3: "stream3",
	TypeHashValkey:          "hash with field TTLs of Valkey 9, or of a Redis 7.4 release candidate",
	TypeHashFieldTTLPacked0: "hash listpack with field TTLs of a Redis 7.4 release candidate",
	TypeHashFieldTTL:        "hash with field TTLs", TypeHashFieldTTLPacked: "hash listpack with field TTLs",
	243:        "SLOT_IMPORT of Valkey 9",
	opSlotInfo: "SLOT_INFO", opFunction2: "FUNCTION2", opFunctionPreGA: "FUNCTION_PRE_GA of a 7.0 release candidate", opModuleAux: "MODULE_AUX",
	opIdle: "IDLE", opFreq: "FREQ", opAux: "AUX", opResizeDB: "RESIZEDB", opExpireMS: "EXPIRETIME_MS",
	opExpire: "EXPIRETIME", opSelectDB: "SELECTDB", opEOF: "EOF",
}

// TypeName is the name of a type or opcode with its number, "18 (list
// quicklist2)", or the number alone when it is not known.
func TypeName(typ byte) string {
	n := strconv.Itoa(int(typ))
	if typeNames[typ] == "" {
		return n
	}
	return n + " (" + typeNames[typ] + ")"
}

// Kind is what a value is to a client, whatever its encoding.
type Kind uint8

// The kinds of values.
const (
	KindUnknown Kind = iota
	KindString
	KindList
	KindSet
	KindZSet
	KindHash
	KindStream
	KindModule
)

// String is the word that the TYPE command answers ("module" for modules,
// "unknown" for types that this package does not know).
func (k Kind) String() string {
	switch k {
	case KindString:
		return "string"
	case KindList:
		return "list"
	case KindSet:
		return "set"
	case KindZSet:
		return "zset"
	case KindHash:
		return "hash"
	case KindStream:
		return "stream"
	case KindModule:
		return "module"
	}
	return "unknown"
}

// KindOf tells the kind of values of type typ.
func KindOf(typ byte) Kind {
	switch typ {
	case TypeString:
		return KindString
	case TypeList, TypeListZiplist, TypeListQuicklist, TypeListQuicklist2:
		return KindList
	case TypeSet, TypeSetIntset, TypeSetListpack:
		return KindSet
	case TypeZSet, TypeZSet2, TypeZSetZiplist, TypeZSetListpack:
		return KindZSet
	case TypeHash, TypeHashZipmap, TypeHashZiplist, TypeHashListpack,
		TypeHashValkey, TypeHashFieldTTLPacked0, TypeHashFieldTTL, TypeHashFieldTTLPacked:
		return KindHash
	case TypeStreamListpacks, TypeStreamListpacks2, TypeStreamListpacks3:
		return KindStream
	case TypeModulePreGA, TypeModule2:
		return KindModule
	}
	return KindUnknown
}

// readable tells the types whose bodies skipValue finds the end of.
func readable(typ byte) bool {
	return typ <= TypeHashFieldTTLPacked && typ != TypeModulePreGA && typ != 8
}
