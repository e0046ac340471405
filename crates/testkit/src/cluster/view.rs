use crate::{Error, Server};

/// A line of `CLUSTER NODES`: what one node thinks of another or of itself.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) master: Option<String>,
    pub(super) epoch: u64,
    flags: Vec<String>,
    slots: Vec<(u16, u16)>,
}

impl Node {
    /// Whether it has a flag: `myself`, `master`, `slave`, `fail?`, `fail`, `handshake`, `noaddr`.
    pub(super) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    pub(super) fn serves(&self, slot: u16) -> bool {
        self.slots.iter().any(|&(first, last)| (first..=last).contains(&slot))
    }

    /// `<id> <ip:port@bus> <flags> <master> <ping> <pong> <epoch> <link> <slot>…`
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let slots = words.get(8..)?.iter().filter_map(|slot| {
            // Slots that are being moved stand in brackets and fail to parse.
            let (first, last) = slot.split_once('-').unwrap_or((slot, slot));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        Some(Self {
            id: (*words.first()?).into(),
            flags: words.get(2)?.split(',').map(Into::into).collect(),
            master: words.get(3).filter(|id| **id != "-").map(|id| (*id).into()),
            epoch: words.get(6)?.parse().ok()?,
            slots: slots.collect(),
        })
    }
}

/// All nodes as one of them sees them.
pub(super) fn nodes(server: &Server) -> Result<Vec<Node>, Error> {
    let text = server.command(["CLUSTER", "NODES"])?;
    Ok(text.as_str().unwrap_or_default().lines().filter_map(Node::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line() {
        let line = "07c3 127.0.0.1:30004@31004,host myself,master - 0 1426238317239 4 connected 0-5460 7000 [93->-29f]";
        let node = Node::parse(line).unwrap();
        assert!(node.is("myself") && node.is("master") && !node.is("slave"));
        assert!(
            node.serves(0) && node.serves(5460) && node.serves(7000) && !node.serves(93 + 5460)
        );
        assert_eq!((node.epoch, node.master), (4, None));
        let replica = Node::parse("a b:1@2 slave 07c3 0 0 1 connected").unwrap();
        assert_eq!(replica.master.as_deref(), Some("07c3"));
    }
}
