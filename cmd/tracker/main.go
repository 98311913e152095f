// Command tracker runs one tracker of the pool.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/trackerpool/trackerpool/internal/trackercmd"
)

func main() {
	if err := trackercmd.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "tracker: %v\n", err)
		os.Exit(1)
	}
}
