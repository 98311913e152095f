// Package k8s_test holds the manifests to each other, to Kubernetes' own rules, and to the constants of the program. It is a module of its own,
// because what it imports is large.
package k8s_test
