//! A decision by a script, as a rate limiter makes it, from few and from many tasks.

use redbrick_benches::{Bench, Case, Flavor, Keys, Options, sides::Clients};
use redbrick_testkit::Server;

const ABOUT: &str = "each task lets a script decide about one of 10,000 subjects after the other; batched and redbrick are ours";

fn main() {
    let Some(options) = Options::from_args() else { return };
    let mut bench = Bench::new("scripts", ABOUT, options);
    let server = Server::start().expect("a server can be had");
    let keys = Keys::new("limit");
    for flavor in Flavor::ALL {
        let runtime = flavor.runtime();
        let clients = Clients::connect(&runtime, &server.url());
        let sides = clients.decisions(&keys);
        for &tasks in bench.choose(&[1, 16, 64, 512][..], &[1, 16, 64, 512]) {
            bench.case(&Case {
                what: "decide",
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
