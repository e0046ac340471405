//! Reads from a server that is a network away: whether calls wait for each other.

use std::time::Duration;

use redbrick_benches::{Bench, Case, Flavor, Keys, Options, sides::Clients};
use redbrick_testkit::{Fault, Server};

const ABOUT: &str = "as reads, through a proxy that holds back requests and replies for half a millisecond or a little more each";

/// The proxy is exact to milliseconds; what it comes to is in the latencies.
const EACH_WAY: Duration = Duration::from_micros(500);

fn main() {
    let Some(options) = Options::from_args() else { return };
    let mut bench = Bench::new("far", ABOUT, options).longer(2);
    let server = Server::start().expect("a server can be had");
    let proxy = server.proxy().expect("a proxy can be had");
    proxy.set(Fault::Latency { up: EACH_WAY, down: EACH_WAY });
    let keys = Keys::new("bench");
    for &flavor in bench.choose(&Flavor::ALL[..], &Flavor::ALL[..1]) {
        let runtime = flavor.runtime();
        // The values go the short way.
        drop(Clients::connect(&runtime, &server.url()).reads(&keys));
        let clients = Clients::connect(&runtime, &proxy.url());
        let sides = clients.reads_of_stored(&keys);
        for &tasks in bench.choose(&[1, 4, 16, 64][..], &[1, 64]) {
            bench.case(&Case {
                what: "get, far",
                flavor,
                runtime: &runtime,
                tasks,
                sides: &sides,
                servers: std::slice::from_ref(&server),
            });
        }
    }
    bench.finish();
}
