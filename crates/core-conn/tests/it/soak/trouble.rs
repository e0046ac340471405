//! Faults at random.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redbrick_testkit::{Cluster, Fault, Proxy, Server, wait_until};

use crate::chance::Chance;

/// The servers under test, each behind a proxy.
pub(super) enum Servers {
    Single(Box<Server>, Proxy),
    Cluster(Cluster),
}

impl Servers {
    fn len(&self) -> usize {
        match self {
            Self::Single(..) => 1,
            Self::Cluster(cluster) => cluster.nodes().len(),
        }
    }

    fn pair(&self, at: usize) -> (&Server, &Proxy) {
        match self {
            Self::Single(server, proxy) => (server, proxy),
            Self::Cluster(cluster) => (&cluster.nodes()[at], cluster.proxy(at)),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Server, &Proxy)> {
        (0..self.len()).map(|at| self.pair(at))
    }
}

/// Makes faults until `stop`, one after the other; returns how many of each there were.
pub(super) fn make(
    servers: &Servers,
    mut chance: Chance,
    stop: &Arc<AtomicBool>,
) -> BTreeMap<&'static str, u32> {
    let mut made = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let (server, proxy) =
            servers.pair(usize::try_from(chance.of(0..servers.len() as u64)).expect("small"));
        let trouble = Trouble { server, proxy, stop };
        let name = trouble.make(servers, &mut chance);
        *made.entry(name).or_default() += 1;
        trouble.rest(&mut chance, 50..300);
    }
    made
}

struct Trouble<'a> {
    server: &'a Server,
    proxy: &'a Proxy,
    stop: &'a AtomicBool,
}

impl Trouble<'_> {
    fn make(&self, servers: &Servers, chance: &mut Chance) -> &'static str {
        match chance.of(0..12) {
            0 => self.while_set("stall of what is open", chance, 500..3_500, |chance| {
                self.proxy.set_for_open(stall(chance));
            }),
            1 => self.while_set("stall of all", chance, 50..1_500, |chance| {
                self.proxy.set(stall(chance));
            }),
            2 => self
                .while_set("lost replies", chance, 10..200, |_| self.proxy.set(Fault::DropReplies)),
            3 => self.while_set("cut", chance, 10..200, |chance| {
                self.proxy.set(Fault::CutAfterReplyBytes(chance.of(0..5_000)));
            }),
            4 => self.while_set("latency", chance, 50..500, |chance| {
                let [up, down] = [(); 2].map(|()| Duration::from_millis(chance.of(0..20)));
                self.proxy.set(Fault::Latency { up, down });
            }),
            5 => self.while_set("slow network", chance, 50..500, |_| {
                self.proxy.set(Fault::Throttle { bytes_per_second: 50_000 });
            }),
            6 => {
                if chance.one_in(2) {
                    self.proxy.reset();
                } else {
                    self.proxy.close();
                }
                "reset"
            }
            7 => {
                self.proxy.refuse();
                self.proxy.reset();
                self.rest(chance, 10..500);
                self.proxy.accept().expect("the port is still there");
                "refusal"
            }
            8 => {
                self.server.kill().expect("a process to kill");
                self.rest(chance, 1..300);
                self.server.restart().expect("it starts again");
                "kill and restart"
            }
            9 => {
                let paused = self.server.pause().expect("a process to pause");
                self.rest(chance, 50..2_000);
                paused.resume();
                "pause"
            }
            10 => {
                self.server.command(["CLIENT", "KILL", "TYPE", "normal"]).expect("the server");
                self.server.command(["SCRIPT", "FLUSH"]).expect("the server");
                "CLIENT KILL"
            }
            _ => match servers {
                Servers::Single(..) => "calm",
                Servers::Cluster(cluster) => {
                    let slot = cluster.slot_of(format!("counter{}", chance.of(0..8)));
                    let to = usize::try_from(chance.of(0..cluster.nodes().len() as u64));
                    let (slot, to) = (slot.expect("a slot"), to.expect("small"));
                    // Refused while it is there already, or while a node is coming back.
                    let moved = cluster.migrate_slot(slot, to);
                    if moved.is_ok() { "slot moved" } else { "slot not moved" }
                }
            },
        }
    }

    fn while_set(
        &self,
        name: &'static str,
        chance: &mut Chance,
        millis: std::ops::Range<u64>,
        set: impl FnOnce(&mut Chance),
    ) -> &'static str {
        set(chance);
        self.rest(chance, millis);
        // Not every fault lets go of what it held: half of the time the connections end with it.
        if chance.one_in(2) {
            self.proxy.reset();
        }
        self.proxy.clear();
        name
    }

    /// Lets time pass, unless it is over.
    fn rest(&self, chance: &mut Chance, millis: std::ops::Range<u64>) {
        wait_until(Duration::from_millis(chance.of(millis)), || self.stop.load(Ordering::Relaxed));
    }
}

fn stall(chance: &mut Chance) -> Fault {
    [Fault::Stall, Fault::StallRequests, Fault::StallReplies]
        [usize::try_from(chance.of(0..3)).expect("small")]
}
