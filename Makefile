# Every verb but build and clean is a step of .ci/run, where the commands are.

.PHONY: help build test manifests image compose race lint generate generated fuzz bench bench-all bench-bounds page load chaos soak mutations vulncheck bench-peers bench-page alerts release check clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' Makefile

build: ## build the commands into bin/
	go build -o bin/ ./cmd/...

test: ## run the tests
	@.ci/run test

manifests: ## check what k8s has, against the program and the rules of Kubernetes
	@.ci/run manifests

image: ## build images of tracker and loadtest for GOARCH, tagged TAG (default dev)
	@.ci/run image

compose: ## build the images, and run three trackers and a load generator in containers
	@.ci/run compose

race: ## run the tests under the race detector
	@.ci/run race

lint: ## gofmt, vet, staticcheck, errorlint, misspell, go.mod
	@.ci/run gofmt vet staticcheck errorlint misspell tidy

generate: ## write the code generated from rpc/trackerpb/*.proto
	@.ci/run generate

generated: ## check that the generated code is current
	@.ci/run generated

fuzz: ## run each fuzz target for FUZZTIME (default 5s)
	@.ci/run fuzz

bench: ## compare the hot paths with the commit BASE (default origin/main or HEAD~1) by benchstat
	@.ci/run bench

bench-all: ## run the benchmarks matching BENCH (default all) ten times, and sum up with benchstat
	@.ci/run bench-all

bench-bounds: ## run the benchmarks of what is bounded in docs/benchmarks.md
	@.ci/run bench-bounds

page: ## test the web page in Chromium; SCREENSHOT=docs/page.png writes a picture of it
	@.ci/run page

bench-peers: ## compare with Redis, Valkey, memcached, etcd, Olric and a prototype, in a quarter of an hour, with PEERS_FLAGS
	@.ci/run bench-peers

bench-page: ## put what bench-peers measured last into docs/benchmarks.md
	@.ci/run bench-page

load: ## run the load test with 50,000 nodes and all events
	@.ci/run load

chaos: ## do every fault to trackers with NODES nodes (default 1,000,000), and where Docker is to containers: 15 min and 8 at most
	@.ci/run chaos

soak: ## simulate pools under random faults for SOAK (default 30m)
	@.ci/run soak

mutations: ## put faults into the code, and expect tests to fail
	@.ci/run mutations

vulncheck: ## look for known faults in what the code calls; needs vuln.go.dev
	@.ci/run vulncheck

alerts: ## test the alert rules with Prometheus' rule engine, and the dashboard against a running tracker
	@.ci/run alerts

release: ## build the commands into bin/release for amd64 and arm64, and prove that they are the same bytes again
	@.ci/run release

check: ## all that a change must pass, as CI runs it
	@.ci/run

clean: ## remove what build and bench left
	rm -rf bin
