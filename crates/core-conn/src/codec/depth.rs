//! A limit to how deep a stored value nests, so that no value can overflow the stack.
//!
//! `serde_json` has such a limit. `rmp_serde`'s leaves out the variants of enums: a megabyte that names a recursive
//! variant over and over ends the process.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// How many levels a value may have; as many as `serde_json` lets pass.
const LEVELS: usize = 127;

/// What takes part in reading a value, with the levels that may be below it.
pub(super) struct Limited<T> {
    inner: T,
    levels: usize,
}

impl<T> Limited<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, levels: LEVELS }
    }

    /// `inner` on the same level.
    fn with<U>(&self, inner: U) -> Limited<U> {
        Limited { inner, levels: self.levels }
    }

    /// `inner` one level below.
    fn below<U, E: Error>(&self, inner: U) -> Result<Limited<U>, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Limited { inner, levels }),
            None => Err(E::custom(format_args!("the value nests deeper than {LEVELS} levels"))),
        }
    }
}

macro_rules! forward_deserialize {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(
            self,
            $($arg: $type,)*
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            let visitor = self.with(visitor);
            self.inner.$method($($arg,)* visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<D> {
    type Error = D::Error;

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    forward_deserialize! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }
}

macro_rules! forward_visit {
    ($($method:ident($($arg:ident: $type:ty)?);)*) => {
        $(fn $method<E: Error>(self $(, $arg: $type)?) -> Result<V::Value, E> {
            self.inner.$method($($arg)?)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Limited<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.visit_some(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.visit_newtype_struct(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let seq = self.below(seq)?;
        self.inner.visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let map = self.below(map)?;
        self.inner.visit_map(map)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let variant = self.below(variant)?;
        self.inner.visit_enum(variant)
    }

    forward_visit! {
        visit_bool(value: bool);
        visit_i8(value: i8);
        visit_i16(value: i16);
        visit_i32(value: i32);
        visit_i64(value: i64);
        visit_i128(value: i128);
        visit_u8(value: u8);
        visit_u16(value: u16);
        visit_u32(value: u32);
        visit_u64(value: u64);
        visit_u128(value: u128);
        visit_f32(value: f32);
        visit_f64(value: f64);
        visit_char(value: char);
        visit_str(value: &str);
        visit_borrowed_str(value: &'de str);
        visit_string(value: String);
        visit_bytes(value: &[u8]);
        visit_borrowed_bytes(value: &'de [u8]);
        visit_byte_buf(value: Vec<u8>);
        visit_none();
        visit_unit();
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Limited<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.deserialize(deserializer)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Limited<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Limited<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Limited<A> {
    type Error = A::Error;
    type Variant = Limited<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let seed = self.with(seed);
        let levels = self.levels;
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Limited { inner, levels }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Limited<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize, de::IgnoredAny};

    use super::LEVELS;
    use crate::{Codec, ErrorKind, Result};

    /// Nests in each way that a type can.
    #[derive(Debug, Deserialize, Serialize)]
    enum Nest {
        End,
        Variant(Box<Self>),
        Tuple(Box<Self>, u8),
        Struct { inner: Box<Self> },
        List(Vec<Self>),
        Option(Option<Box<Self>>),
    }

    fn nested(depth: usize, around: fn(Nest) -> Nest) -> Nest {
        (0..depth).fold(Nest::End, |inner, _| around(inner))
    }

    fn stored(codec: Codec, one: &[u8], end: &[u8], times: usize) -> Vec<u8> {
        let header = codec.encode(&0).expect("a number")[..4].to_vec();
        [header, one.repeat(times), end.to_vec()].concat()
    }

    fn is_refused<T>(read: Result<T>) -> bool {
        read.is_err_and(|err| err.kind() == ErrorKind::Codec)
    }

    #[test]
    fn values_of_the_stated_depth_are_read_and_deeper_ones_refused() {
        // A list in a list, one level each; the innermost is empty.
        for (codec, depth, read) in [
            (Codec::MessagePack, LEVELS, true),
            (Codec::MessagePack, LEVELS + 1, false),
            (Codec::Json, LEVELS, true),
            (Codec::Json, LEVELS + 1, false),
        ] {
            let value = match codec {
                Codec::Json => stored(codec, b"[", &b"]".repeat(depth), depth),
                _ => stored(codec, b"\x91", b"\x90", depth - 1),
            };
            let found = codec.decode::<serde_json::Value>(&value);
            assert_eq!(found.is_ok(), read, "{codec:?} {depth}");
            assert_eq!(is_refused(found), !read);
        }
    }

    #[test]
    fn every_way_of_nesting_is_counted() {
        let ways: [fn(Nest) -> Nest; 5] = [
            |inner| Nest::Variant(inner.into()),
            |inner| Nest::Tuple(inner.into(), 0),
            |inner| Nest::Struct { inner: inner.into() },
            |inner| Nest::List(vec![inner]),
            |inner| Nest::Option(Some(inner.into())),
        ];
        for (at, way) in ways.into_iter().enumerate() {
            for codec in [Codec::MessagePack, Codec::Json, Codec::Plain] {
                let shallow = codec.encode(&nested(40, way)).unwrap();
                codec.decode::<Nest>(&shallow).unwrap();
                let deep = codec.encode(&nested(LEVELS + 1, way)).unwrap();
                assert!(is_refused(codec.decode::<Nest>(&deep)), "{codec:?}, way {at}");
            }
        }
    }

    #[test]
    fn a_bomb_is_an_error() {
        const TIMES: usize = 1_000_000;
        for one in [b"\x81\xa7Variant".as_slice(), b"\x91\xa7Variant", b"\x91", b"\x81\xa6Option"] {
            let bomb = stored(Codec::MessagePack, one, b"\xa3End", TIMES);
            assert!(is_refused(Codec::MessagePack.decode::<Nest>(&bomb)));
            assert!(is_refused(Codec::MessagePack.decode::<serde_json::Value>(&bomb)));
            assert!(is_refused(Codec::MessagePack.decode::<IgnoredAny>(&bomb)));
        }
        // A value read as the list that it is not: each of its elements goes on in the next.
        let siblings =
            [b"\xdd\x00\x0f\x42\x40".as_slice(), &b"\x91\xa7Variant".repeat(TIMES)].concat();
        let siblings = stored(Codec::MessagePack, b"", &siblings, 0);
        assert!(is_refused(Codec::MessagePack.decode::<Vec<Nest>>(&siblings)));
        for one in [b"{\"Variant\":".as_slice(), b"[", b"{\"a\":"] {
            let bomb = stored(Codec::Json, one, b"", TIMES);
            assert!(is_refused(Codec::Json.decode::<Nest>(&bomb)));
            assert!(is_refused(Codec::Json.decode::<serde_json::Value>(&bomb)));
            assert!(is_refused(Codec::Plain.decode::<Nest>(&bomb[4..])));
        }
    }
}
