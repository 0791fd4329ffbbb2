package rdb

import "fmt"

// skipValue passes the body of a value of type typ, reading no more of it
// than says where it ends.
func (s *source) skipValue(typ byte) error {
	switch typ {
	case TypeString, TypeHashZipmap, TypeListZiplist, TypeSetIntset, TypeZSetZiplist, TypeHashZiplist,
		TypeHashListpack, TypeZSetListpack, TypeSetListpack, TypeHashFieldTTLPacked0:
		return s.skipString()
	case TypeHashFieldTTLPacked:
		if err := s.skip(8); err != nil { // the first deadline
			return err
		}
		return s.skipString()
	case TypeHashFieldTTL, TypeHashValkey:
		return s.skipFields(typ)
	case TypeList, TypeSet, TypeListQuicklist:
		return s.skipStrings(1)
	case TypeHash:
		return s.skipStrings(2)
	case TypeZSet:
		return s.skipScored((*source).skipTextScore)
	case TypeZSet2:
		return s.skipScored(func(s *source) error { return s.skip(8) })
	case TypeListQuicklist2:
		return s.skipQuicklist2()
	case TypeStreamListpacks, TypeStreamListpacks2, TypeStreamListpacks3:
		return s.skipStream(typ)
	case TypeModule2:
		if _, err := s.readLength(); err != nil { // the module's id
			return err
		}
		return s.skipModule()
	}
	return ErrUnknownType
}

// skipStrings passes a count and that many times per strings.
func (s *source) skipStrings(per uint64) error {
	n, err := s.readLength()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		for range per {
			if err := s.skipString(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *source) skipScored(score func(*source) error) error {
	n, err := s.readLength()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := s.skipString(); err != nil {
			return err
		}
		if err := score(s); err != nil {
			return err
		}
	}
	return nil
}

// Lengths of a text score that stand for a value instead.
const (
	scoreNaN    = 253
	scorePosInf = 254
	scoreNegInf = 255
)

func (s *source) skipTextScore() error {
	n, err := s.readByte()
	if err != nil || n >= scoreNaN {
		return err
	}
	return s.skip(int(n))
}

// Containers of a quicklist2 node.
const (
	nodePlain  = 1
	nodePacked = 2
)

func (s *source) skipQuicklist2() error {
	n, err := s.readLength()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		container, err := s.readLength()
		if err != nil {
			return err
		}
		if container != nodePlain && container != nodePacked {
			return fmt.Errorf("quicklist container %d", container)
		}
		if err := s.skipString(); err != nil {
			return err
		}
	}
	return nil
}

// skipLengths passes n lengths.
func (s *source) skipLengths(n int) error {
	for range n {
		if _, err := s.readLength(); err != nil {
			return err
		}
	}
	return nil
}

// skipStream follows rdbSaveObject for streams; stream.go says what is what.
func (s *source) skipStream(typ byte) error {
	if err := s.skipStrings(2); err != nil { // node keys and listpacks
		return err
	}
	info, group := 3, 2
	if typ >= TypeStreamListpacks2 {
		info, group = 8, 3
	}
	if err := s.skipLengths(info); err != nil {
		return err
	}
	groups, err := s.readLength()
	if err != nil {
		return err
	}
	for ; groups > 0; groups-- {
		if err := s.skipString(); err != nil {
			return err
		}
		if err := s.skipLengths(group); err != nil {
			return err
		}
		if err := s.skipPending(); err != nil {
			return err
		}
		if err := s.skipConsumers(typ); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) skipPending() error {
	n, err := s.readLength()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := s.skip(16 + 8); err != nil { // id, delivery time
			return err
		}
		if err := s.skipLengths(1); err != nil { // delivery count
			return err
		}
	}
	return nil
}

func (s *source) skipConsumers(typ byte) error {
	n, err := s.readLength()
	if err != nil {
		return err
	}
	times := 8 // seen
	if typ >= TypeStreamListpacks3 {
		times = 16 // and active
	}
	for ; n > 0; n-- {
		if err := s.skipString(); err != nil {
			return err
		}
		if err := s.skip(times); err != nil {
			return err
		}
		owned, err := s.readLength()
		if err != nil {
			return err
		}
		for ; owned > 0; owned-- {
			if err := s.skip(16); err != nil {
				return err
			}
		}
	}
	return nil
}

// skipModule passes the parts of a module's value up to its end mark.
func (s *source) skipModule() error {
	for {
		part, err := s.readLength()
		if err != nil {
			return err
		}
		switch part {
		case moduleEOF:
			return nil
		case moduleSInt, moduleUInt:
			err = s.skipLengths(1)
		case moduleFloat:
			err = s.skip(4)
		case moduleDouble:
			err = s.skip(8)
		case moduleString:
			err = s.skipString()
		default:
			err = fmt.Errorf("module part %d", part)
		}
		if err != nil {
			return err
		}
	}
}
