//! rustis' multiplexed client as it comes; it speaks RESP3 and nothing else.

use rustis::{
    client::Client,
    commands::{ScriptingCommands as _, StringCommands as _},
    resp::BulkString,
};

use crate::{
    Keys, Operation, Side,
    keys::{VALUE_LEN, stored},
    script::{self, Decision},
};

const NAME: &str = "rustis";

/// Connects with default settings.
pub(super) async fn connect(url: &str) -> Client {
    Client::connect(url).await.expect("the server answers rustis")
}

/// Reads the bytes that redbrick stored.
pub(super) fn get(client: &Client, keys: &Keys) -> Side {
    Side::new(NAME, Get { client: client.clone(), keys: keys.clone() })
}

/// Writes bytes as redbrick stores them.
pub(super) fn set(client: &Client, keys: &Keys) -> Side {
    let value = BulkString::new(stored(VALUE_LEN));
    Side::new(NAME, Set { client: client.clone(), keys: keys.clone(), value })
}

/// Lets a script decide about a subject (`EVALSHA`).
pub(super) async fn decide(client: &Client, subjects: &Keys) -> Side {
    let digest: String =
        client.script_load(script::SOURCE).await.expect("the server takes the script");
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
        let found: Option<BulkString> = self.client.get(key).await.expect("rustis reads");
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
    value: BulkString,
}

impl Operation for Set {
    async fn call(&mut self, random: u64) {
        self.client.set(self.keys.pick(random), &self.value).await.expect("rustis writes");
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
        let args = [script::INTERVAL, script::BURST];
        let call = self.client.evalsha(&self.digest, self.subjects.pick(random), args);
        let decision: Decision = call.await.expect("rustis decides");
        script::check(decision);
    }
}
