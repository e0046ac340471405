//! How the master behind sentinels is found: all of them are asked at once, and every node that one of them names is
//! dialed, until one says that it is a master. So a sentinel that is behind, or silent, keeps nobody from the others'
//! word. After a master went down, they name it until its successor is chosen, and are asked again meanwhile.

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use super::{
    lane::Purpose,
    link::{Address, Link, LinkEnd, Target},
    time::pause,
};
use crate::{
    Config, Credentials, Error, ErrorKind, Result,
    config::{Node, Sentinels},
    error::fred::from_call,
};

/// How long after its answer a sentinel is asked again, while no node that one named turned out to be the master.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Makes a link to the master that `sentinels` name, until `deadline`.
pub(super) async fn dial(
    config: &Config,
    sentinels: &Sentinels,
    target: impl Fn(Node) -> Target,
    deadline: Instant,
) -> Result<(Link, LinkEnd)> {
    let (_asking, mut answers, mut unheard) = ask(config, sentinels, deadline);
    let (mut dials, mut dialing) = (JoinSet::new(), BTreeSet::new());
    let (mut unnamed, mut undialed) = (None, None);
    while !(unheard.is_empty() && dials.is_empty()) {
        tokio::select! {
            biased;
            Some(dialed) = dials.join_next() => {
                let (node, dialed) = dialed.map_err(ended)?;
                match dialed {
                    Ok(found) => return Ok(found),
                    Err(err) => undialed = Some(err),
                }
                dialing.remove(&node);
            }
            Some((sentinel, answer)) = answers.recv() => {
                unheard.remove(&sentinel);
                match answer {
                    Ok(node) => {
                        if dialing.insert(node.clone()) {
                            let dial = master(config.clone(), target(node.clone()), deadline);
                            dials.spawn(async move { (node, dial.await) });
                        }
                    }
                    Err(err) => unnamed = Some(err),
                }
            }
            // The runtime ends.
            else => break,
        }
    }
    Err(match (undialed, unnamed) {
        (Some(err), _) => err,
        (None, Some(err)) if err.kind() == ErrorKind::Auth => {
            err.context("the sentinels refuse the credentials for them")
        }
        (None, unnamed) => {
            let what = "no sentinel could name a reachable master; check the service name and the sentinels";
            let err = Error::new(ErrorKind::Topology, what);
            match unnamed {
                Some(reason) => err.with_source(reason),
                None => err,
            }
        }
    })
}

/// Tasks that ask, what they are answered, and the sentinels that have not answered yet.
type Asking = (JoinSet<()>, mpsc::Receiver<(Node, Result<Node>)>, BTreeSet<Node>);

/// Asks all sentinels at once, and each again and again.
fn ask(config: &Config, sentinels: &Sentinels, deadline: Instant) -> Asking {
    let Sentinels { nodes, service, username, password } = sentinels;
    let credentials =
        Credentials { username: username.clone(), password: password.clone(), valid_for: None };
    let (answer, answers) = mpsc::channel(nodes.len());
    let mut asking = JoinSet::new();
    for node in nodes {
        let target = Target {
            address: Address::Tcp(node.clone()),
            credentials: credentials.clone(),
            database: 0,
            purpose: Purpose::Questions,
        };
        let (config, service, answer) = (config.clone(), service.clone(), answer.clone());
        let node = node.clone();
        asking.spawn(async move {
            loop {
                let named = timeout_at(deadline, named(&config, &target, &service, deadline));
                let named = named.await.unwrap_or_else(|late| {
                    let what = "a sentinel did not answer in time";
                    Err(Error::new(ErrorKind::Timeout, what).with_source(late))
                });
                let told = answer.send((node.clone(), named)).await;
                if told.is_err() || Instant::now() >= deadline {
                    return;
                }
                pause(ASK_AGAIN).await;
            }
        });
    }
    (asking, answers, nodes.iter().cloned().collect())
}

/// The node that one sentinel takes for the master.
async fn named(config: &Config, target: &Target, service: &str, deadline: Instant) -> Result<Node> {
    let (link, _end) = Link::dial(config, target, deadline).await?;
    let question = ["get-master-addr-by-name", service];
    let answer = link.ask(config.connect_timeout, "SENTINEL", &question).await;
    let answer: Option<(String, u16)> = answer.map_err(from_call)?;
    let (host, port) =
        answer.ok_or_else(|| Error::new(ErrorKind::Topology, "unknown service name"))?;
    Ok(Node::new(&host, port))
}

/// Dials and makes sure that the server is a master; one that does not let the user ask is believed.
async fn master(config: Config, target: Target, deadline: Instant) -> Result<(Link, LinkEnd)> {
    let (link, end) = Link::dial(&config, &target, deadline).await?;
    if link.is_master(config.connect_timeout).await? {
        return Ok((link, end));
    }
    let what = "the server that the sentinels name is not a master yet";
    Err(Error::new(ErrorKind::Topology, what))
}

/// It was ended together with the runtime.
fn ended(gone: JoinError) -> Error {
    Error::closed().with_source(gone)
}
