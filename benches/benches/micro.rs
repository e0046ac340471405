//! What needs no server: values to bytes and back, and keys.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use redbrick_benches::VALUE_LEN;
use redbrick_core_conn::{Bytes, Codec, Prefix};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    is_active: bool,
}

fn codec(criterion: &mut Criterion) {
    let user = User {
        id: 42,
        name: "Ada Lovelace".into(),
        email: "ada@example.com".into(),
        is_active: true,
    };
    let bytes = Bytes::from(vec![b'x'; VALUE_LEN]);
    for (name, codec) in [("MessagePack", Codec::MessagePack), ("JSON", Codec::Json)] {
        let mut group = criterion.benchmark_group(name);
        let stored = codec.encode(&user).expect("a user can be encoded");
        group.bench_function("encode a struct", |bencher| {
            bencher.iter(|| codec.encode(black_box(&user)).expect("a user can be encoded"));
        });
        group.bench_function("decode a struct", |bencher| {
            bencher.iter(|| codec.decode::<User>(black_box(&stored)).expect("it was encoded"));
        });
        group.finish();
    }
    for (name, codec) in [("MessagePack", Codec::MessagePack), ("Plain", Codec::Plain)] {
        let mut group = criterion.benchmark_group(name);
        let stored = codec.encode(&bytes).expect("bytes can be encoded");
        group.bench_function("encode 100 bytes", |bencher| {
            bencher.iter(|| codec.encode(black_box(&bytes)).expect("bytes can be encoded"));
        });
        group.bench_function("decode 100 bytes", |bencher| {
            bencher.iter(|| codec.decode::<Bytes>(black_box(&stored)).expect("they were encoded"));
        });
        group.finish();
    }
}

fn keys(criterion: &mut Criterion) {
    let users = Prefix::new("app").join("users");
    let mut group = criterion.benchmark_group("Prefix");
    group.bench_function("key", |bencher| bencher.iter(|| users.key(black_box("0123456789"))));
    group.bench_function("key of an id that needs escapes", |bencher| {
        bencher.iter(|| users.key(black_box("a:{b}%c")));
    });
    group.bench_function("tagged key", |bencher| {
        bencher.iter(|| users.tagged(black_box("0123456789")));
    });
    group.finish();
}

criterion_group!(benches, codec, keys);
criterion_main!(benches);
