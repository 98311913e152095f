// Package directorytest checks what every node.Directory promises.
package directorytest
