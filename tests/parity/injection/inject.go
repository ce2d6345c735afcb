// SPDX-License-Identifier: Apache-2.0

// inject reads cases, one JSON object to a line, and answers each with what the standard's own
// library makes of it: the configuration, or the names that it cannot resolve, or that it failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	oci "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

type question struct {
	Directories [][]json.RawMessage `json:"directories"`
	Config      json.RawMessage     `json:"config"`
	Devices     []string            `json:"devices"`
}

type answer struct {
	Config     *oci.Spec `json:"config,omitempty"`
	Unresolved []string  `json:"unresolved,omitempty"`
	Failed     string    `json:"failed,omitempty"`
}

func inject(asked question, folder string) (given answer) {
	defer func() {
		if fault := recover(); fault != nil {
			given = answer{Failed: fmt.Sprintf("panic: %v", fault)}
		}
	}()
	config := &oci.Spec{}
	if err := json.Unmarshal(asked.Config, config); err != nil {
		return answer{Failed: err.Error()}
	}
	var directories []string
	for number, specs := range asked.Directories {
		directory := filepath.Join(folder, fmt.Sprint(number))
		must(os.MkdirAll(directory, 0o755))
		for place, spec := range specs {
			must(os.WriteFile(filepath.Join(directory, fmt.Sprintf("%03d.json", place)), spec, 0o644))
		}
		directories = append(directories, directory)
	}
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(directories...))
	must(err)
	unresolved, err := cache.InjectDevices(config, asked.Devices...)
	if len(unresolved) > 0 {
		return answer{Unresolved: unresolved}
	}
	if err != nil {
		return answer{Failed: err.Error()}
	}
	return answer{Config: config}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		must(json.Unmarshal(lines.Bytes(), &asked))
		folder, err := os.MkdirTemp("", "inject")
		must(err)
		must(answers.Encode(inject(asked, folder)))
		must(os.RemoveAll(folder))
	}
	must(lines.Err())
}
