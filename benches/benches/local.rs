//! What a cache keeps in the process: a hit beside a bare moka that keeps an `Arc` of the same value, and beside a client that asks
//! the server.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{hint::black_box, sync::Arc, time::Instant};

use fred::{
    clients::Client,
    interfaces::{ClientLike as _, KeysInterface as _},
    types::{Builder, config::Config},
};
use redbrick_benches::{Options, VALUE_LEN};
use redbrick_cache::{Cache, Fetched, Local, Origin};
use redbrick_core_conn::Conn;
use redbrick_testkit::Server;

/// How many keys are read in turn.
const KEYS: usize = 1000;

/// What is compared, in the order in which it is printed.
#[derive(Clone, Copy)]
enum Side {
    Moka,
    Get,
    GetTagged,
    GetOrLoad,
    Fred,
}

const SIDES: [Side; 5] = [Side::Moka, Side::Get, Side::GetTagged, Side::GetOrLoad, Side::Fred];

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Moka => "bare moka",
            Self::Get => "cache.get",
            Self::GetTagged => "cache.get, 2 tags",
            Self::GetOrLoad => "get_or_load",
            Self::Fred => "fred's get",
        }
    }

    /// How often each key is read in a slice: what needs no server is quick.
    fn passes(self) -> usize {
        if let Self::Fred = self { 1 } else { 50 }
    }
}

fn main() {
    let Some(options) = Options::from_args() else { return };
    let server = Server::start().expect("a server can be had");
    let rounds = if options.quick { 21 } else { 101 };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    let url = server.url();
    // In a task, as in a service.
    let measured = runtime
        .block_on(runtime.spawn(async move { Sides::new(&url).await.measure(rounds).await }));
    print(&measured.expect("no side fails"));
}

/// What the sides read from.
struct Sides {
    ids: Vec<String>,
    bare: moka::sync::Cache<String, Arc<String>>,
    cache: Cache<Arc<String>>,
    tagged: Cache<Arc<String>>,
    fred: Client,
}

impl Sides {
    async fn new(url: &str) -> Self {
        let conn = Conn::connect(url).await.expect("the server");
        let local = |name| {
            let builder = Cache::builder(conn.clone(), name).local(Local::new());
            builder.build().expect("the settings are right")
        };
        let fred = Builder::from_config(Config::from_url(url).expect("a URL")).build();
        let fred = fred.expect("a client");
        fred.init().await.expect("the server");
        let ids: Vec<String> = (0..KEYS).map(|n| format!("product:{n}")).collect();
        let (bare, cache, tagged) = (moka::sync::Cache::new(10_000), local("c"), local("t"));
        for id in &ids {
            let value = Arc::new("x".repeat(VALUE_LEN));
            cache.set(id, &value).await.expect("it is stored");
            tagged.set(id, &value).tags(["shelf", "maker"]).await.expect("it is stored");
            let _: () = fred.set(id, &**value, None, None, false).await.expect("it is stored");
            bare.insert(id.clone(), value);
        }
        for cache in [&cache, &tagged] {
            for id in &ids {
                // Until it is kept.
                let load = || async { Ok::<_, std::io::Error>(Arc::default()) };
                while !matches!(
                    cache.get_or_load(id, load).with_origin().await,
                    Ok(Fetched { origin: Origin::Local, .. })
                ) {
                    tokio::task::yield_now().await;
                }
            }
        }
        Self { ids, bare, cache, tagged, fred }
    }

    /// What each took for a read in each round, in nanoseconds.
    async fn measure(&self, rounds: usize) -> Vec<Vec<f64>> {
        let mut all = vec![Vec::new(); SIDES.len()];
        for round in 0..rounds {
            for turn in 0..SIDES.len() {
                let at = (round + turn) % SIDES.len();
                let (side, passes) = (SIDES[at], SIDES[at].passes());
                let began = Instant::now();
                for _ in 0..passes {
                    self.read(side).await;
                }
                let reads = u32::try_from(passes * KEYS).expect("they are few");
                all[at].push(began.elapsed().as_secs_f64() * 1e9 / f64::from(reads));
            }
        }
        all
    }

    /// Reads each key once.
    async fn read(&self, side: Side) {
        let load = || async { Ok::<_, std::io::Error>(Arc::default()) };
        match side {
            Side::Moka => {
                for id in &self.ids {
                    black_box(self.bare.get(id).expect("it is there"));
                }
            }
            Side::Get => {
                for id in &self.ids {
                    black_box(
                        self.cache.get(id).await.expect("it can be had").expect("it is there"),
                    );
                }
            }
            Side::GetTagged => {
                for id in &self.ids {
                    black_box(
                        self.tagged.get(id).await.expect("it can be had").expect("it is there"),
                    );
                }
            }
            Side::GetOrLoad => {
                for id in &self.ids {
                    black_box(self.cache.get_or_load(id, load).await.expect("it is there"));
                }
            }
            Side::Fred => {
                for id in &self.ids {
                    let value: Option<fred::bytes::Bytes> =
                        self.fred.get(id).await.expect("the server");
                    black_box(value.expect("it is there"));
                }
            }
        }
    }
}

/// A line for each side.
fn print(all: &[Vec<f64>]) {
    println!(
        "\nlocal: one task reads values of {VALUE_LEN} bytes, of {KEYS}, one after the other; the sides take turns\n"
    );
    println!("{:<18} {:>10}   side ÷ bare moka", "side", "ns a read");
    println!("{:<18} {:>10}   median p10..p90", "", "median");
    for (side, nanos) in SIDES.into_iter().zip(all) {
        let name = side.name();
        let ratios = sorted(nanos.iter().zip(&all[0]).map(|(it, bare)| it / bare).collect());
        let at = |percent: usize| ratios[(ratios.len() - 1) * percent / 100];
        let median = median(nanos);
        println!("{name:<18} {median:>10.0}   {:.2} {:.2}..{:.2}", at(50), at(10), at(90));
    }
    println!(
        "\nfred's get takes {:.0} times as long as cache.get",
        median(&all[Side::Fred as usize]) / median(&all[Side::Get as usize])
    );
}

fn median(nanos: &[f64]) -> f64 {
    let sorted = sorted(nanos.to_vec());
    sorted[sorted.len() / 2]
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}
