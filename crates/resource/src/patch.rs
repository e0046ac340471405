//! What is checked of a patch before it is sent, so that it makes no record unreadable.

use std::{
    cell::Cell,
    io::{self, Read},
};

use bytes::Bytes;
use redbrick_core_conn::Codec;

use crate::{Error, Record, fields, fields::Fields};

/// A field that no record knows, behind those of the patch: who comes here has accepted them all.
const BEHIND: &[u8] = b"\0behind";

/// Checks that `R` takes the values of the patch's fields, and that the id stays what it is.
pub(crate) fn check<R: Record>(id: &str, patch: &Fields) -> Result<(), Error> {
    for name in R::ID {
        if let Some(value) = patch.get(name)
            && !(R::ID.len() == 1 && is_id(id, &patch.header, value))
        {
            return Err(Error::misshaped("a patch cannot change what the id is made of"));
        }
    }
    let mut encoded = patch.join(1)?;
    let behind = encoded.len();
    fields::push_text(&mut encoded, BEHIND);
    encoded.extend_from_slice(fields::NIL);

    let passed = Cell::new(0);
    let counted = Counted { rest: &encoded, passed: &passed };
    match R::deserialize(&mut rmp_serde::Deserializer::new(counted)) {
        Ok(_) => Ok(()),
        // All of them were taken, and the record's other fields are missing.
        Err(_) if passed.get() > behind => Ok(()),
        // What serde says can quote the value, and is left out.
        Err(_) => Err(Error::misshaped("a field of the patch has another type than the record's")),
    }
}

/// Whether the value says the id: as a text, or as a whole number.
fn is_id(id: &str, header: &Bytes, value: &Bytes) -> bool {
    let value = [&header[..], &value[..]].concat();
    let codec = Codec::MessagePack;
    codec.decode::<String>(&value).is_ok_and(|text| text == id)
        || codec.decode::<i64>(&value).is_ok_and(|number| number.to_string() == id)
        || codec.decode::<u64>(&value).is_ok_and(|number| number.to_string() == id)
}

/// Bytes that say how many of them were read.
struct Counted<'a> {
    rest: &'a [u8],
    passed: &'a Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.rest.read(buf)?;
        self.passed.set(self.passed.get() + read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, collections::BTreeMap};

    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        id: u32,
        name: String,
        tags: Vec<String>,
        at: Option<(u8, u8)>,
    }

    impl Record for Strict {
        const NAME: &'static str = "strict";

        fn id(&self) -> Cow<'_, str> {
            self.id.to_string().into()
        }
    }

    #[derive(Deserialize, Serialize)]
    struct Loose(BTreeMap<String, u8>);

    impl Record for Loose {
        const NAME: &'static str = "loose";
        const ID: &'static [&'static str] = &["a", "b"];

        fn id(&self) -> Cow<'_, str> {
            "7".into()
        }
    }

    fn checked<R: Record>(patch: &Value) -> bool {
        check::<R>("7", &Fields::split(patch).unwrap()).is_ok()
    }

    #[test]
    fn what_the_record_takes_passes_and_the_rest_does_not() {
        for good in [
            json!({}),
            json!({"name": "x"}),
            json!({"tags": []}),
            json!({"at": null, "name": "y".repeat(100_000)}),
            json!({"at": [1, 2], "tags": ["a"], "name": "z", "id": 7}),
        ] {
            assert!(checked::<Strict>(&good), "{good}");
        }
        for bad in [
            json!({"name": 1}),
            json!({"tags": "a"}),
            json!({"at": [1]}),
            json!({"at": [1, 300]}),
            json!({"name": "x", "tags": [1]}),
            json!({"unknown": 1}),
            json!({"name": null}),
        ] {
            assert!(!checked::<Strict>(&bad), "{bad}");
        }
        assert!(checked::<Loose>(&json!({"x": 1})) && !checked::<Loose>(&json!({"x": "1"})));
    }

    #[test]
    fn the_id_stays() {
        assert!(checked::<Strict>(&json!({"id": 7})));
        assert!(!checked::<Strict>(&json!({"id": 8})) && !checked::<Strict>(&json!({"id": null})));
        assert!(!checked::<Loose>(&json!({"a": 7})), "one of several");
    }
}
