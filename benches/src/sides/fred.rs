//! fred as it comes, but for `TCP_NODELAY`, which redbrick sets too.

use fred::{
    bytes::Bytes,
    clients::Client,
    interfaces::{ClientLike as _, KeysInterface as _, LuaInterface as _},
    types::{Builder, config::Config},
};

use crate::{
    Keys, Operation, Side,
    keys::{VALUE_LEN, stored},
    script::{self, Decision},
};

const NAME: &str = "fred";

/// Connects without deadlines, as fred does by default.
pub(super) async fn connect(url: &str) -> Client {
    let config = Config::from_url(url).expect("a URL that fred knows");
    let mut builder = Builder::from_config(config);
    builder.with_connection_config(|connection| connection.tcp.nodelay = Some(true));
    let client = builder.build().expect("a client of fred's");
    client.init().await.expect("the server answers fred");
    client
}

/// Reads the bytes that redbrick stored.
pub(super) fn get(client: &Client, keys: &Keys) -> Side {
    Side::new(NAME, Get { client: client.clone(), keys: keys.clone() })
}

/// Writes bytes as redbrick stores them.
pub(super) fn set(client: &Client, keys: &Keys) -> Side {
    Side::new(NAME, Set { client: client.clone(), keys: keys.clone(), value: stored(VALUE_LEN) })
}

/// Lets a script decide about a subject (`EVALSHA`).
pub(super) async fn decide(client: &Client, subjects: &Keys) -> Side {
    let digest = client.script_load(script::SOURCE).await.expect("the server takes the script");
    Side::new(NAME, Decide { client: client.clone(), subjects: subjects.clone(), digest })
}

#[derive(Clone)]
struct Get {
    client: Client,
    keys: Keys,
}

impl Operation for Get {
    async fn call(&mut self, random: u64) {
        let key = self.keys.pick(random);
        let found = self.client.get::<Option<Bytes>, _>(key).await.expect("fred reads");
        assert_eq!(found.map(|value| value.len()), Some(self.keys.stored_len(random)));
    }

    fn is_sampled(&self, random: u64) -> bool {
        !self.keys.is_large(random)
    }
}

#[derive(Clone)]
struct Set {
    client: Client,
    keys: Keys,
    value: Bytes,
}

impl Operation for Set {
    async fn call(&mut self, random: u64) {
        let (key, value) = (self.keys.pick(random), self.value.clone());
        let set = self.client.set::<(), _, _>(key, value, None, None, false);
        set.await.expect("fred writes");
    }
}

#[derive(Clone)]
struct Decide {
    client: Client,
    subjects: Keys,
    digest: String,
}

impl Operation for Decide {
    async fn call(&mut self, random: u64) {
        let (digest, key) = (self.digest.as_str(), self.subjects.pick(random));
        let args = vec![script::INTERVAL, script::BURST];
        let call = self.client.evalsha::<Decision, _, _, _>(digest, key, args);
        script::check(call.await.expect("fred decides"));
    }
}
