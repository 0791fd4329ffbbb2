# make build   bin/tairlift, one static binary
# make test    go vet and every test, with real servers on loopback ports
# make check   formatting and linters
# make demo    a whole migration in about a minute, with kills on the way
# make soak    a migration in which everything goes wrong, for MINUTES=10; SEED=n repeats one (SOAK_FLAGS='--without kill-source': without some),
#              and before it one value of BIG=1024 MiB of each kind after the other, within 256 MiB of memory of ours. Their two servers
#              take 7 GB of memory and the spool 2 GB of disk, and it all takes half an hour and more (BIG=256: a quarter of that; BIG=: without)
# make matrix  migrations from each server in SOURCE_SERVERS to each in TARGET_SERVERS (paths parted by commas), and a table of what came of them
# make fuzz    each fuzz target for FUZZTIME
# make bench   tairlift against raw work, some minutes; writes docs/benchmarks.md (BENCH_FLAGS='--scale 0.1 --out -': a quick try)
# make microbench   the benchmarks of the packages
# make vuln    known vulnerabilities in the dependencies (needs the network)

VERSION       := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TEST_TIMEOUT  ?= 20m
TEST_FLAGS    ?=
FUZZTIME      ?= 30s
MINUTES       ?= 10
SEED          ?=
SOAK_FLAGS    ?=
BIG           ?= 1024
BENCH         ?= .
BENCH_FLAGS   ?=

# The linters' own dependencies stay out of go.mod: each is installed into TOOLS, under
# a name with its version, so that a new version is a new file.
TOOLS         := $(CURDIR)/.cache/bin
GOFUMPT       := $(TOOLS)/gofumpt-v0.12.0
STATICCHECK   := $(TOOLS)/staticcheck-v0.8.2
GOLANGCI      := $(TOOLS)/golangci-lint-v2.15.0
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: build test check demo soak matrix fuzz bench microbench vuln deps clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/tairlift ./cmd/tairlift

# -count=1: what the tests launch (servers, go list) is nothing the test cache knows of.
test: deps
	go vet ./...
	go test -count=1 -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

check: $(GOFUMPT) $(STATICCHECK) $(GOLANGCI)
	@out=$$($(GOFUMPT) -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$out" ]; then echo "not formatted (hint: $(GOFUMPT) -w FILE):"; echo "$$out"; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...
	$(GOLANGCI) run ./...

demo: build deps
	go run ./internal/job/demo

soak: build deps
	$(if $(BIG),BIG_VALUES=$(BIG) go test -count=1 -timeout 3h -v -run '^TestBigValues$$' ./internal/e2e)
	go run ./internal/job/soak -minutes $(MINUTES) $(if $(SEED),-seed $(SEED)) $(SOAK_FLAGS)

# SOURCE_SERVERS and TARGET_SERVERS come from the environment or the command line.
matrix: deps
	go test -count=1 -timeout 2h -v -run '^TestVersions$$' ./internal/e2e

fuzz:
	@set -e; for pkg in $$(go list ./...); do \
		for name in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$name"; \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

bench: build deps
	go run ./internal/job/bench $(BENCH_FLAGS)

microbench: deps
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

vuln:
	go run $(GOVULNCHECK) ./...

# The servers of the tests and the demo. A package just installed starts its service,
# which nobody asked for: it is stopped again, with or without systemd.
deps:
	@if command -v redis-server >/dev/null 2>&1; then exit 0; fi; \
	if [ -n "$$SOURCE_SERVER" ] && [ -n "$$TARGET_SERVER" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then \
		echo "redis-server is not installed"; \
		echo "hint: as root, apt-get install redis-server; or name other servers in SOURCE_SERVER and TARGET_SERVER"; \
		exit 1; \
	fi; \
	set -e; export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq; \
	apt-get install -y -qq --no-install-recommends redis-server; \
	if [ -d /run/systemd/system ]; then systemctl disable --now redis-server >/dev/null 2>&1 || true; \
	else service redis-server stop >/dev/null 2>&1 || true; fi

$(GOFUMPT):
	$(call install,mvdan.cc/gofumpt)
$(STATICCHECK):
	$(call install,honnef.co/go/tools/cmd/staticcheck)
$(GOLANGCI):
	$(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

# install PACKAGE: the version is what the target's name ends in.
define install
@mkdir -p $(TOOLS)
GOBIN=$(TOOLS) go install $(1)@$(lastword $(subst -v, v,$@))
@mv $(TOOLS)/$(lastword $(subst /, ,$(1))) $@
endef

clean:
	rm -rf bin .cache
