// SPDX-License-Identifier: Apache-2.0

// verdict reads file names, one to a line, and answers for each what the standard's own library
// makes of it: "ok", or "refused" and why.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/cdi"
)

func verdict(path string) (answer string) {
	defer func() {
		if fault := recover(); fault != nil {
			answer = fmt.Sprintf("refused panic: %v", fault)
		}
	}()
	if _, err := cdi.ReadSpec(path, 0); err != nil {
		return "refused " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return "ok"
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(verdict(lines.Text()))
	}
}
