// SPDX-License-Identifier: Apache-2.0
// Checks the dashboard on standard input: unknown, missing and wrong fields of it and of its panels.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	text, err := io.ReadAll(os.Stdin)
	check(err)
	board := dashboard.Dashboard{}
	check(board.UnmarshalJSONStrict(text))
	check(board.Validate())
}

// The module answers with an error without text if a dashboard is right.
func check(err error) {
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
