//! fred as it comes, but for `TCP_NODELAY`, which redbrick sets too.

use std::sync::Arc;

use fred::{
    bytes::Bytes,
    clients::Client,
    interfaces::{ClientLike as _, ClusterInterface as _, KeysInterface as _, LuaInterface as _},
    types::{Builder, cluster::ClusterRouting, config::Config},
    util::redis_keyslot,
};

use crate::{
    Keys, Operation, Side,
    keys::{VALUE_LEN, stored},
    script::{self, Decision},
};

const NAME: &str = "fred";
/// A client for each master of a cluster, where one client has a task for all of them.
const NAME_APART: &str = "fred, one each";

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

/// Connects a client to each master that `cluster` knows.
pub(super) async fn connect_apart(cluster: &Client) -> Vec<Client> {
    let mut clients = Vec::new();
    for master in cluster_of(cluster).unique_primary_nodes() {
        clients.push(connect(&format!("redis://{}:{}", master.host, master.port)).await);
    }
    clients
}

/// Reads the bytes that redbrick stored, each over the client of the master that has the key.
pub(super) fn get_apart(cluster: &Client, clients: &[Client], keys: &Keys) -> Side {
    let cluster = cluster_of(cluster);
    let masters = cluster.unique_primary_nodes();
    let owner = |key: &str| {
        let master = cluster.get_server(redis_keyslot(key.as_bytes())).expect("each slot has one");
        masters.iter().position(|one| one == master).expect("it is among them")
    };
    let owners = keys.names().iter().map(|key| owner(key)).collect();
    let get = |client: &Client| Get { client: client.clone(), keys: keys.clone() };
    Side::new(NAME_APART, GetApart { masters: clients.iter().map(get).collect(), owners })
}

fn cluster_of(client: &Client) -> ClusterRouting {
    client.cached_cluster_state().expect("fred knows the cluster")
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
struct GetApart {
    masters: Vec<Get>,
    /// For each key, whose it is.
    owners: Arc<[usize]>,
}

impl Operation for GetApart {
    async fn call(&mut self, random: u64) {
        let owner = self.owners[Keys::at(random)];
        self.masters[owner].call(random).await;
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
