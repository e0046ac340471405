//! What the command line may say.

xflags::xflags! {
    /// The one door for every habit of this repository.
    cmd xtask {
        /// Gets a server and runs the tour on it, in front of your eyes.
        cmd demo {}

        /// Gets a server and runs every test of every crate, in its short form.
        cmd test {}

        /// Runs the integration tests on each server version and topology, and prints a table.
        cmd integration {
            /// Server versions: `all`, or a list such as `redis-6.2,valkey-9`. Default: any one server.
            optional --servers servers: String
            /// Topologies: standalone, cluster, sentinel, tls, or a list of them. Default: standalone.
            optional --topology topology: String
            /// Runs the long forms of the suites that have one; says so when none has.
            optional --soak
        }

        /// Runs the steps that a change must pass, or only those that are named.
        cmd ci {
            /// Adds the slow steps and those that need extra tools; names the tools that are absent.
            optional --full
            /// Rewrites the committed public API texts instead of comparing with them.
            optional --bless
            /// Steps to run, in the order given. Default: all.
            repeated step: String
        }

        /// Checks the rules of this repository that no other tool knows.
        cmd tidy {}

        /// Prints the path of a server's executable; fetches one when there is none.
        cmd server {
            /// Which one: redis-6.2, redis-7.0, redis-8, valkey-8, valkey-9. Default: any.
            optional --want want: String
        }

        /// Runs the benchmarks against a server.
        cmd bench {
            /// One of them, by the name of its file in benches/benches. Default: all.
            optional name: String
            /// Fewer cases and shorter rounds; without a name only those that tell most: three minutes.
            optional --quick
        }

        /// Makes the folder of a new crate, with the files that every crate has.
        cmd new {
            /// The folder's name; the package is called `redbrick-<name>`.
            required name: String
            /// What it does for its users, in one sentence. Default: that it is a building block.
            optional --about about: String
        }
    }
}
