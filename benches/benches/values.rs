//! Small values beside large ones: what a reader of 100 bytes notices of 64 KiB that go over the same link.

use redbrick_benches::{Bench, Case, Flavor, Keys, Options, sides::Clients};
use redbrick_testkit::Server;

const ABOUT: &str = "64 tasks read; 1 in 20 values has 64 KiB, the others 100 bytes; latencies are those of the others";

fn main() {
    let Some(options) = Options::from_args() else { return };
    let mut bench = Bench::new("values", ABOUT, options);
    let server = Server::start().expect("a server can be had");
    let keys = Keys::new("bench").some_large();
    for flavor in Flavor::ALL {
        let runtime = flavor.runtime();
        let clients = Clients::connect(&runtime, &server.url());
        bench.case(&Case {
            what: "get, some large",
            flavor,
            runtime: &runtime,
            tasks: 64,
            sides: &clients.reads(&keys),
            servers: std::slice::from_ref(&server),
        });
    }
    bench.finish();
}
