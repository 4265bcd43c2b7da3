// Command oracle answers questions about pods and configurations with the code of Kubernetes, of prometheus-operator and
// of Prometheus, for tests of a program that was written without that code.
//
// Input: one request a line, {"op": "...", "args": {...}}. Output: one reply a line, in the order of the requests,
// {"result": {...}} or {"failure": {"stage": "...", "message": "..."}}. It ends with its input.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := checkLinks(); err != nil {
		fmt.Fprintf(os.Stderr, "oracle: upstream code that is reached by linkname is not what it was: %v\n", err)
		os.Exit(1)
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "oracle: %v\n", err)
		os.Exit(1)
	}
}

// serve replies to every line until the input ends.
func serve(input io.Reader, output io.Writer) error {
	lines := bufio.NewReaderSize(input, 1<<20)
	replies := json.NewEncoder(output)
	replies.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			if err := replies.Encode(answer(line)); err != nil {
				return fmt.Errorf("a reply cannot be written: %w", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("a request cannot be read: %w", err)
		}
	}
}
