//! The cache beside plain commands: reads, writes, many at once, and entries with tags.

use redbrick_benches::{Bench, Case, Flavor, Keys, Options, sides::CacheClients};
use redbrick_testkit::Server;

const ABOUT: &str =
    "each task reads or writes cached values of 100 bytes, of 10,000, one after the other";

fn main() {
    let Some(options) = Options::from_args() else { return };
    let mut bench = Bench::new("cache", ABOUT, options);
    let server = Server::start().expect("a server can be had");
    let keys = Keys::new("bench");
    for flavor in Flavor::ALL {
        let runtime = flavor.runtime();
        let clients = CacheClients::connect(&runtime, &server.url());
        for (what, sides) in [
            ("get", clients.reads(&keys)),
            ("get 100", clients.reads_of_many(&keys)),
            ("set", clients.writes(&keys)),
            ("set, 2 tags", clients.writes_with_tags(&keys)),
            ("set, 2 tags followed", clients.writes_with_followed_tags(&keys)),
        ] {
            for &tasks in bench.choose(&[1, 64, 512][..], &[64, 512]) {
                bench.case(&Case {
                    what,
                    flavor,
                    runtime: &runtime,
                    tasks,
                    sides: &sides,
                    servers: std::slice::from_ref(&server),
                });
            }
        }
    }
    bench.finish();
}
