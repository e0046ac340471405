//! redbrick as its users call it.

use redbrick_core_conn::{BatchScript, Bytes, Conn, Script};

use crate::{
    Keys, Operation, Side,
    keys::{VALUE_LEN, value},
    script::{self, Decision},
};

const NAME: &str = "redbrick";

/// Connects with default settings.
pub(super) async fn connect(url: &str) -> Conn {
    Conn::connect(url).await.expect("the server answers redbrick")
}

/// Reads a value of 100 bytes and decodes it.
pub(super) fn get(conn: &Conn, keys: &Keys) -> Side {
    Side::new(NAME, Get { conn: conn.clone(), keys: keys.clone() })
}

/// Encodes 100 bytes and stores them.
pub(super) fn set(conn: &Conn, keys: &Keys) -> Side {
    Side::new(NAME, Set { conn: conn.clone(), keys: keys.clone(), value: value(VALUE_LEN) })
}

/// Lets a batch script decide about a subject.
pub(super) fn decide_each(conn: &Conn, subjects: &Keys) -> Side {
    Side::new("batched", DecideEach { conn: conn.clone(), subjects: subjects.clone() })
}

static DECIDE_EACH: BatchScript = BatchScript::new("bench.decide_each", script::EACH);

/// Lets a script decide about a subject.
pub(super) fn decide(conn: &Conn, subjects: &Keys) -> Side {
    Side::new(NAME, Decide { conn: conn.clone(), subjects: subjects.clone() })
}

static DECIDE: Script = Script::new("bench.decide", script::SOURCE);

#[derive(Clone)]
struct Get {
    conn: Conn,
    keys: Keys,
}

impl Operation for Get {
    async fn call(&mut self, random: u64) {
        let found = self.conn.get::<Bytes>(self.keys.pick(random)).await.expect("redbrick reads");
        assert_eq!(found.map(|value| value.len()), Some(self.keys.len(random)));
    }

    fn is_sampled(&self, random: u64) -> bool {
        !self.keys.is_large(random)
    }
}

#[derive(Clone)]
struct Set {
    conn: Conn,
    keys: Keys,
    value: Bytes,
}

impl Operation for Set {
    async fn call(&mut self, random: u64) {
        self.conn.set(self.keys.pick(random), &self.value).await.expect("redbrick writes");
    }
}

#[derive(Clone)]
struct Decide {
    conn: Conn,
    subjects: Keys,
}

impl Operation for Decide {
    async fn call(&mut self, random: u64) {
        let call = self.conn.script(&DECIDE).key(self.subjects.pick(random));
        let call = call.arg(script::INTERVAL).arg(script::BURST);
        script::check(call.run::<Decision>().await.expect("redbrick decides"));
    }
}

#[derive(Clone)]
struct DecideEach {
    conn: Conn,
    subjects: Keys,
}

impl Operation for DecideEach {
    async fn call(&mut self, random: u64) {
        let call = self.conn.batch_script(&DECIDE_EACH).key(self.subjects.pick(random));
        let call = call.shared(script::INTERVAL).shared(script::BURST);
        script::check(call.run::<Decision>().await.expect("redbrick decides for many"));
    }
}
