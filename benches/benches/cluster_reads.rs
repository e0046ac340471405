//! Reads from a cluster of three masters: keys in all slots, and keys in one.

use redbrick_benches::{Bench, Case, Flavor, Keys, Options, sides::ClusterClients};
use redbrick_testkit::Cluster;

const ABOUT: &str =
    "each task reads one of 10,000 values of 100 bytes after the other, from three masters";

fn main() {
    let Some(options) = Options::from_args() else { return };
    let mut bench = Bench::new("cluster_reads", ABOUT, options);
    let cluster = Cluster::builder().replicas(0).start().expect("a cluster can be had");
    let everywhere = Keys::new("bench");
    let together = Keys::tagged("bench");
    for flavor in Flavor::ALL {
        let runtime = flavor.runtime();
        let clients = ClusterClients::connect(&runtime, &cluster);
        for (what, keys) in [("get, all slots", &everywhere), ("get, one slot", &together)] {
            let sides = clients.reads(keys);
            for &tasks in bench.choose(&[16, 64, 512][..], &[64, 512]) {
                bench.case(&Case {
                    what,
                    flavor,
                    runtime: &runtime,
                    tasks,
                    sides: &sides,
                    servers: cluster.nodes(),
                });
            }
        }
    }
    bench.finish();
}
