//! `GET` of 100 bytes, one of 10,000 keys, from few and from many tasks.

use redbrick_benches::{Bench, Case, Flavor, Keys, Options, sides::Clients};
use redbrick_testkit::Server;

const ABOUT: &str = "each task reads one of 10,000 values of 100 bytes after the other";

fn main() {
    let Some(options) = Options::from_args() else { return };
    let mut bench = Bench::new("reads", ABOUT, options);
    let server = Server::start().expect("a server can be had");
    let keys = Keys::new("bench");
    for flavor in Flavor::ALL {
        let runtime = flavor.runtime();
        let clients = Clients::connect(&runtime, &server.url());
        let sides = clients.reads(&keys);
        for &tasks in bench.choose(&[1, 2, 4, 16, 64, 512][..], &[1, 16, 64, 512]) {
            bench.case(&Case {
                what: "get",
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
