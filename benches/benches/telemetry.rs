//! What spans and meters cost when nobody listens: `cargo xtask bench telemetry` builds this twice and compares.

use redbrick_benches::{Bench, Case, Flavor, Keys, Options, sides::Clients};
use redbrick_testkit::Server;

const ABOUT: &str = "redbrick alone: 64 tasks on one thread";

fn main() {
    let Some(options) = Options::from_args() else { return };
    let mut bench = Bench::new("telemetry", ABOUT, options);
    let server = Server::start().expect("a server can be had");
    let keys = Keys::new("bench");
    let runtime = Flavor::CurrentThread.runtime();
    let clients = Clients::connect(&runtime, &server.url());
    let (reads, writes) = (clients.reads(&keys), clients.writes(&keys));
    let decisions = clients.decisions(&Keys::new("limit"));
    for (what, sides) in [("get", reads), ("set", writes), ("decide, batched", decisions)] {
        bench.case(&Case {
            what,
            flavor: Flavor::CurrentThread,
            runtime: &runtime,
            tasks: 64,
            sides: &sides[..1],
            servers: std::slice::from_ref(&server),
        });
    }
    bench.finish();
}
