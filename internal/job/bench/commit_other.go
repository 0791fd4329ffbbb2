//go:build !linux

package main

import "os"

var commitWays = []commitWay{{name: "plain append, fsync", sync: (*os.File).Sync}}
