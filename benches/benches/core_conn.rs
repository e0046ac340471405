//! Typed calls of core-conn beside the client library that it is built on.

use std::{sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use fred::{
    clients::Client,
    interfaces::{ClientLike as _, KeysInterface as _, LuaInterface as _},
    types::{Builder, config::Config as FredConfig},
};
use redbrick_benches::{Side, compare};
use redbrick_core_conn::{Conn, DEFAULT_COMMAND_TIMEOUT, Script};
use tokio::runtime::Runtime;

/// fred as it comes, with which a call can wait for ever, and with redbrick's promise of a deadline.
const BARE: &str = "fred";
const TIMED: &str = "fred with a timeout";

/// fred writes each script call by itself. As it comes, it lets the kernel hold small writes back while others are on
/// their way, which spares system calls on both sides and costs a call up to a round trip; redbrick does not.
const PROMPT: &str = "fred with TCP_NODELAY";
const DELAYED: &str = "fred as it comes";

const TASKS: [u64; 3] = [1, 64, 512];

fn typed_values(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let url = redbrick_testkit::shared().url();
    let conn = runtime.block_on(Conn::connect(url)).expect("the server answers");
    let bare = runtime.block_on(connect(url, Duration::ZERO, false));
    let timed = runtime.block_on(connect(url, DEFAULT_COMMAND_TIMEOUT, false));
    let key = redbrick_testkit::unique("bench");
    let (typed, plain) = (format!("{key}:typed"), format!("{key}:plain"));
    let text = "x".repeat(100);

    for tasks in TASKS {
        let set = {
            let (conn, key, text) = (conn.clone(), typed.clone(), text.clone());
            move || {
                let (conn, key, text) = (conn.clone(), key.clone(), text.clone());
                async move { conn.set(&key, &text).await.expect("set") }
            }
        };
        let raw_set = |fred: &Client| {
            let (fred, key, text) = (fred.clone(), plain.clone(), text.clone());
            move || {
                let (fred, key, text) = (fred.clone(), key.clone(), text.clone());
                async move { fred.set::<(), _, _>(key, text, None, None, false).await.expect("set") }
            }
        };
        let ours = Side::new("redbrick", set);
        for (name, fred) in [(BARE, &bare), (TIMED, &timed)] {
            let theirs = Side::new(name, raw_set(fred));
            compare(criterion, &runtime, "set", tasks, &ours, &theirs);
        }

        let get = {
            let (conn, key) = (conn.clone(), typed.clone());
            move || {
                let (conn, key) = (conn.clone(), key.clone());
                async move {
                    let found = conn.get::<String>(&key).await.expect("get");
                    assert_eq!(found.map(|text| text.len()), Some(100));
                }
            }
        };
        let raw_get = |fred: &Client| {
            let (fred, key) = (fred.clone(), plain.clone());
            move || {
                let (fred, key) = (fred.clone(), key.clone());
                async move {
                    assert_eq!(fred.get::<String, _>(key).await.expect("get").len(), 100);
                }
            }
        };
        let ours = Side::new("redbrick", get);
        for (name, fred) in [(BARE, &bare), (TIMED, &timed)] {
            let theirs = Side::new(name, raw_get(fred));
            compare(criterion, &runtime, "get", tasks, &ours, &theirs);
        }
    }
}

/// What a script costs: it adds to a counter and answers with it.
const COUNT: &str = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
static COUNTING: Script = Script::new("bench.count", COUNT);

fn scripts(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let url = redbrick_testkit::shared().url();
    let conn = runtime.block_on(Conn::connect(url)).expect("the server answers");
    let delayed = runtime.block_on(connect(url, DEFAULT_COMMAND_TIMEOUT, false));
    let prompt = runtime.block_on(connect(url, DEFAULT_COMMAND_TIMEOUT, true));
    let redis = redis::Client::open(url).expect("a URL that redis-rs knows");
    let redis = runtime.block_on(redis.get_multiplexed_async_connection());
    let redis = redis.expect("the server answers");
    let digest: String =
        runtime.block_on(prompt.script_load(COUNT)).expect("the server takes the script");
    let key = redbrick_testkit::unique("bench");

    for tasks in TASKS {
        let ours = {
            let (conn, key) = (conn.clone(), key.clone());
            move || {
                let (conn, key) = (conn.clone(), key.clone());
                async move {
                    conn.script(&COUNTING).key(&key).arg(1).run::<i64>().await.expect("a count");
                }
            }
        };
        let theirs = |fred: &Client| {
            let (fred, key, digest) = (fred.clone(), key.clone(), digest.clone());
            move || {
                let (fred, key, digest) = (fred.clone(), key.clone(), digest.clone());
                async move {
                    let _: i64 = fred.evalsha(digest, vec![key], vec![1]).await.expect("a count");
                }
            }
        };
        let others = {
            let script = Arc::new(redis::Script::new(COUNT));
            let (redis, key) = (redis.clone(), key.clone());
            move || {
                let (mut redis, key, script) = (redis.clone(), key.clone(), Arc::clone(&script));
                async move {
                    let mut call = script.key(key);
                    let _: i64 = call.arg(1).invoke_async(&mut redis).await.expect("a count");
                }
            }
        };
        let ours = Side::new("redbrick", ours);
        for (name, fred) in [(PROMPT, &prompt), (DELAYED, &delayed)] {
            compare(criterion, &runtime, "script", tasks, &ours, &Side::new(name, theirs(fred)));
        }
        compare(criterion, &runtime, "script", tasks, &ours, &Side::new("redis-rs", others));
    }
}

/// Connects fred with a timeout for each command; zero is none.
async fn connect(url: &str, timeout: Duration, nodelay: bool) -> Client {
    let config = FredConfig::from_url(url).expect("a URL that fred knows");
    let mut builder = Builder::from_config(config);
    builder.with_performance_config(|performance| performance.default_command_timeout = timeout);
    builder.with_connection_config(|connection| connection.tcp.nodelay = Some(nodelay));
    let client = builder.build().expect("a client");
    client.init().await.expect("the server answers");
    client
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = typed_values, scripts
}
criterion_main!(benches);
