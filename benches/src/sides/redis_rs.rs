//! redis-rs' multiplexed connection as it comes, but for `TCP_NODELAY`, which the others set too.

use std::sync::Arc;

use redbrick_core_conn::Bytes;
use redis::{
    AsyncCommands, Client, IntoConnectionInfo as _, Script, aio::MultiplexedConnection,
    cluster::ClusterClient, cluster_async::ClusterConnection, io::tcp::TcpSettings,
};

use crate::{
    Keys, Operation, Side,
    keys::{VALUE_LEN, stored},
    script::{self, Decision},
};

const NAME: &str = "redis-rs";

/// Connects with default settings.
pub(super) async fn connect(url: &str) -> MultiplexedConnection {
    let info = url.into_connection_info().expect("a URL that redis-rs knows");
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = Client::open(info).expect("a client of redis-rs'");
    client.get_multiplexed_async_connection().await.expect("the server answers redis-rs")
}

/// Connects to a cluster with default settings.
pub(super) async fn connect_cluster(urls: Vec<String>) -> ClusterConnection {
    let builder = ClusterClient::builder(urls);
    let builder = builder.tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = builder.build().expect("a client of redis-rs'");
    client.get_async_connection().await.expect("the cluster answers redis-rs")
}

/// What reads and writes take: a link to a server, or those to a cluster.
pub(super) trait Connection: AsyncCommands + Clone + Send + Sync + 'static {}

impl<C: AsyncCommands + Clone + Send + Sync + 'static> Connection for C {}

/// Reads the bytes that redbrick stored.
pub(super) fn get(connection: &impl Connection, keys: &Keys) -> Side {
    Side::new(NAME, Get { connection: connection.clone(), keys: keys.clone() })
}

/// Writes bytes as redbrick stores them.
pub(super) fn set(connection: &MultiplexedConnection, keys: &Keys) -> Side {
    let (connection, keys) = (connection.clone(), keys.clone());
    Side::new(NAME, Set { connection, keys, value: stored(VALUE_LEN) })
}

/// Lets a script decide about a subject.
pub(super) fn decide(connection: &MultiplexedConnection, subjects: &Keys) -> Side {
    let (connection, subjects) = (connection.clone(), subjects.clone());
    Side::new(NAME, Decide { connection, subjects, script: Arc::new(Script::new(script::SOURCE)) })
}

#[derive(Clone)]
struct Get<C> {
    connection: C,
    keys: Keys,
}

impl<C: Connection> Operation for Get<C> {
    async fn call(&mut self, random: u64) {
        let key = self.keys.pick(random);
        let found: Option<Vec<u8>> = self.connection.get(key).await.expect("redis-rs reads");
        assert_eq!(found.map(|value| value.len()), Some(self.keys.stored_len(random)));
    }

    fn is_sampled(&self, random: u64) -> bool {
        !self.keys.is_large(random)
    }
}

#[derive(Clone)]
struct Set {
    connection: MultiplexedConnection,
    keys: Keys,
    value: Bytes,
}

impl Operation for Set {
    async fn call(&mut self, random: u64) {
        let (key, value) = (self.keys.pick(random), &*self.value);
        self.connection.set::<_, _, ()>(key, value).await.expect("redis-rs writes");
    }
}

#[derive(Clone)]
struct Decide {
    connection: MultiplexedConnection,
    subjects: Keys,
    script: Arc<Script>,
}

impl Operation for Decide {
    async fn call(&mut self, random: u64) {
        let mut call = self.script.key(self.subjects.pick(random));
        call.arg(script::INTERVAL).arg(script::BURST);
        let decision: Decision =
            call.invoke_async(&mut self.connection).await.expect("redis-rs decides");
        script::check(decision);
    }
}
