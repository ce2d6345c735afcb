// SPDX-License-Identifier: Apache-2.0

// resolve reads questions, one JSON object to a line, and answers each with the file that the
// standard's own library resolves a device name to; null if it does not resolve the name.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"tags.cncf.io/container-device-interface/pkg/cdi"
)

type question struct {
	Name        string   `json:"name"`
	Directories []string `json:"directories"`
}

func resolved(asked question) (path *string) {
	defer func() {
		if recover() != nil {
			path = nil
		}
	}()
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(asked.Directories...))
	if err != nil {
		return nil
	}
	_ = cache.Refresh()
	device := cache.GetDevice(asked.Name)
	if device == nil {
		return nil
	}
	found := device.GetSpec().GetPath()
	return &found
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		answer, _ := json.Marshal(resolved(asked))
		fmt.Println(string(answer))
	}
}
