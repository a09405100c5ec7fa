# The two commands to know: `make demo` shows the program at work, `make test` runs every test.
# Both install what they need: npm packages always, Debian packages when run as root.

# `make build`, then `make install` as whoever may write there (PREFIX, DESTDIR); `make uninstall` takes it away.

.PHONY: install uninstall sim bench-badlink bench-guests bench-auto bench-links fuzz attack hazards soak demo test test-nodes test-unit test-e2e build check bench clean

demo: build
	scripts/demo.sh

test: build
	scripts/need.sh test
	test/run.sh unit
	test/run.sh e2e

# What depends on the runtime, and the demo, with the other versions of Node that are supported.
test-nodes: build
	scripts/need.sh test
	scripts/nodes.sh

test-unit: build
	test/run.sh unit

test-e2e: build
	scripts/need.sh test
	test/run.sh e2e

build: node_modules/.package-lock.json
	npm run --silent build

check: node_modules/.package-lock.json
	scripts/need.sh check
	npm run --silent check
	npm run --silent perl
	[ -e dist/src/index.js ] || npm run --silent build
	scripts/package.sh

# Random connections over random links; SIM_SEED=n runs one of them.
SEEDS ?= 30000
sim: build
	node dist/test/sim/main.js $(SEEDS)

# Random input for as long as asked; FUZZ_SEED=n and FUZZ_TARGET=name run one of them again.
FUZZ_SECONDS ?= 60
fuzz: build
	FUZZ_SECONDS=$(FUZZ_SECONDS) node dist/test/fuzz/main.js

# As root: goodput over a bad link, a Linux guest and tslirp beside Linux and Linux.
bench-badlink: build
	scripts/need.sh test
	unshare --net --mount --pid --fork --kill-child --mount-proc node dist/bench/badlink/main.js

# As root: many guests in one data plane, what an idle one costs and what one waits for beside a heavy one.
bench-guests: build
	scripts/need.sh test
	unshare --net --mount --pid --fork --kill-child --mount-proc node dist/bench/guests/main.js

# As root: links that are no interface, beside passt on the same socket.
bench-links: build
	scripts/need.sh bench
	node dist/bench/links/main.js

# As root: automatic forwards, how soon a service is reachable and what looking for it costs, beside pasta's.
bench-auto: build
	scripts/need.sh bench
	unshare --net --mount --pid --fork --kill-child --mount-proc node dist/bench/auto/main.js

# The hazard tests with the counts that are too large for `make test`: some minutes.
hazards: build
	HAZARDS_FULL=1 node --test --test-reporter=spec dist/test/hazards/*.test.js

# Floods of hazards from a real guest, each for ATTACK_SECONDS (60), while neighbours of the same guest are measured.
attack: build
	scripts/need.sh test
	test/run.sh attack

# Everything at once for SOAK_MINUTES; at the end nothing may be left.
soak: build
	scripts/need.sh test
	test/run.sh soak

bench: build
	scripts/need.sh bench
	node dist/bench/e2e/main.js

# What was built; it is not built here, so that root builds nothing.
PREFIX ?= /usr/local
install:
	scripts/install.sh '$(PREFIX)' '$(DESTDIR)'

uninstall:
	scripts/install.sh -u '$(PREFIX)' '$(DESTDIR)'

clean:
	rm -rf dist coverage

# npm writes this file last. Installed is what the lock file says, as `npm ci` would, but that refuses a lock file made where
# the registry has not every other platform's optional packages. No package here needs its install script.
node_modules/.package-lock.json: package.json package-lock.json
	scripts/need.sh build
	npm install --no-save --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@
