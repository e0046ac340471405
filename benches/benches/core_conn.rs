//! Typed calls of core-conn beside the client library that it is built on.

use criterion::{Criterion, criterion_group, criterion_main};
use fred::{
    clients::Client,
    interfaces::{ClientLike as _, KeysInterface as _},
    types::{Builder, config::Config as FredConfig},
};
use redbrick_benches::{Side, compare};
use redbrick_core_conn::Conn;
use tokio::runtime::Runtime;

const TASKS: [u64; 2] = [1, 64];

fn typed_values(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let url = redbrick_testkit::shared().url();
    let conn = runtime.block_on(Conn::connect(url)).expect("the server answers");
    let fred = runtime.block_on(connect(url));
    let key = redbrick_testkit::unique("bench");
    let (typed, plain) = (format!("{key}:typed"), format!("{key}:plain"));
    let text = "x".repeat(100);

    for tasks in TASKS {
        let set = || {
            let (conn, key, text) = (conn.clone(), typed.clone(), text.clone());
            move || {
                let (conn, key, text) = (conn.clone(), key.clone(), text.clone());
                async move { conn.set(&key, &text).await.expect("set") }
            }
        };
        let raw_set = || {
            let (fred, key, text) = (fred.clone(), plain.clone(), text.clone());
            move || {
                let (fred, key, text) = (fred.clone(), key.clone(), text.clone());
                async move { fred.set::<(), _, _>(key, text, None, None, false).await.expect("set") }
            }
        };
        compare(
            criterion,
            &runtime,
            "set",
            tasks,
            &Side::new("redbrick", set()),
            &Side::new("fred", raw_set()),
        );

        let get = || {
            let (conn, key) = (conn.clone(), typed.clone());
            move || {
                let (conn, key) = (conn.clone(), key.clone());
                async move {
                    assert_eq!(
                        conn.get::<String>(&key).await.expect("get").map(|text| text.len()),
                        Some(100)
                    );
                }
            }
        };
        let raw_get = || {
            let (fred, key) = (fred.clone(), plain.clone());
            move || {
                let (fred, key) = (fred.clone(), key.clone());
                async move {
                    assert_eq!(fred.get::<String, _>(key).await.expect("get").len(), 100);
                }
            }
        };
        compare(
            criterion,
            &runtime,
            "get",
            tasks,
            &Side::new("redbrick", get()),
            &Side::new("fred", raw_get()),
        );
    }
}

async fn connect(url: &str) -> Client {
    let config = FredConfig::from_url(url).expect("a URL that fred knows");
    let client = Builder::from_config(config).build().expect("a client");
    client.init().await.expect("the server answers");
    client
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = typed_values
}
criterion_main!(benches);
