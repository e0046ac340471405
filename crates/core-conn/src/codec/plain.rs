//! Values as other programs write them: texts and bytes bare, everything else JSON.

use serde::{
    Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, Unexpected, Visitor},
};
use serde_json::{Error, Result};

/// What a program that knows nothing of redbrick expects to find.
pub(super) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let (mut bare, mut json) = (None, Json::new(Vec::new()));
    value.serialize(Plain { bare: &mut bare, json: &mut json })?;
    Ok(bare.unwrap_or_else(|| json.into_inner()))
}

/// Takes the whole of `stored` for one value.
pub(super) fn from_slice<T: DeserializeOwned>(stored: &[u8]) -> Result<T> {
    T::deserialize(Stored(stored))
}

type Json = serde_json::Serializer<Vec<u8>>;

/// Writes what has no structure to `bare`, and leaves the rest to `serde_json`.
struct Plain<'a> {
    bare: &'a mut Option<Vec<u8>>,
    json: &'a mut Json,
}

/// Methods of a serializer that write JSON.
macro_rules! json {
    ($($method:ident($($arg:ident: $type:ty),*) -> $ok:ty;)*) => {
        $(fn $method(self, $($arg: $type),*) -> Result<$ok> {
            self.json.$method($($arg),*)
        })*
    };
}

impl<'a> Serializer for Plain<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = <&'a mut Json as Serializer>::SerializeSeq;
    type SerializeTuple = <&'a mut Json as Serializer>::SerializeTuple;
    type SerializeTupleStruct = <&'a mut Json as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = <&'a mut Json as Serializer>::SerializeTupleVariant;
    type SerializeMap = <&'a mut Json as Serializer>::SerializeMap;
    type SerializeStruct = <&'a mut Json as Serializer>::SerializeStruct;
    type SerializeStructVariant = <&'a mut Json as Serializer>::SerializeStructVariant;

    fn serialize_str(self, text: &str) -> Result<()> {
        self.serialize_bytes(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<()> {
        *self.bare = Some(bytes.to_vec());
        Ok(())
    }

    fn serialize_char(self, char: char) -> Result<()> {
        self.serialize_str(char.encode_utf8(&mut [0; 4]))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.json.serialize_newtype_variant(name, index, variant, value)
    }

    json! {
        serialize_bool(value: bool) -> ();
        serialize_i8(value: i8) -> ();
        serialize_i16(value: i16) -> ();
        serialize_i32(value: i32) -> ();
        serialize_i64(value: i64) -> ();
        serialize_i128(value: i128) -> ();
        serialize_u8(value: u8) -> ();
        serialize_u16(value: u16) -> ();
        serialize_u32(value: u32) -> ();
        serialize_u64(value: u64) -> ();
        serialize_u128(value: u128) -> ();
        serialize_f32(value: f32) -> ();
        serialize_f64(value: f64) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(len: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(len: usize) -> Self::SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> Self::SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> Self::SerializeStruct;
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> Self::SerializeStructVariant;
    }
}

/// A whole stored value, read as what it is asked for.
struct Stored<'de>(&'de [u8]);

/// Methods of a deserializer that parse JSON, to its end.
macro_rules! parse {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value> {
            let mut json = serde_json::Deserializer::from_slice(self.0);
            let value = json.$method($($arg,)* visitor)?;
            json.end()?;
            Ok(value)
        })*
    };
}

impl<'de> Deserializer<'de> for Stored<'de> {
    type Error = Error;

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match std::str::from_utf8(self.0) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => Err(Error::invalid_value(Unexpected::Bytes(self.0), &"UTF-8")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.0 == b"null" { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    /// Whoever does not want the value does not care what it looks like.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    parse! {
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
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, collections::BTreeMap, fmt::Debug};

    use serde::{Deserialize, de::IgnoredAny};

    use super::*;
    use crate::{Codec, ErrorKind, codec::Blob};

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Id(String);

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Marker;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct User {
        id: Id,
        admin: Option<bool>,
    }

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    enum Event {
        Closed,
        Renamed(String),
        Moved(i8, i8),
        Resized { by: f64 },
    }

    /// Asserts what is written, and that the same is read from it.
    fn both<T: Debug + DeserializeOwned + PartialEq + Serialize>(value: &T, stored: &[u8]) {
        assert_eq!(Codec::Plain.encode(value).unwrap(), stored, "writing {value:?}");
        assert_eq!(&Codec::Plain.decode::<T>(stored).unwrap(), value);
    }

    fn refused<T: Debug + DeserializeOwned>(stored: &[u8]) {
        let err = Codec::Plain.decode::<T>(stored).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Codec);
        assert_eq!(err.to_string(), "the stored value does not have the shape asked for");
    }

    #[test]
    fn texts_and_bytes_are_written_as_they_are() {
        both(&"hello \"you\"\n".to_owned(), b"hello \"you\"\n");
        both(&String::new(), b"");
        both(&"42".to_owned(), b"42");
        both(&"\"quoted\"".to_owned(), b"\"quoted\"");
        both(&'\u{1F600}', "\u{1F600}".as_bytes());
        both(&Id("user-1".to_owned()), b"user-1");
        both(&Blob(vec![0, 255, b'"', 0xB5]), &[0, 255, b'"', 0xB5]);
        both(&Blob(Vec::new()), b"");
        both(&Some(Some(Id("x".to_owned()))), b"x");
        assert_eq!(Codec::Plain.encode("a str").unwrap(), "a str");
        let text = Codec::Plain.decode::<Cow<'static, str>>(b"text").unwrap();
        assert_eq!(text, "text");
    }

    #[test]
    fn everything_else_is_json() {
        both(&true, b"true");
        both(&-1i8, b"-1");
        both(&u64::MAX, b"18446744073709551615");
        both(&i128::MIN, i128::MIN.to_string().as_bytes());
        both(&u128::MAX, u128::MAX.to_string().as_bytes());
        both(&0.5f32, b"0.5");
        both(&(), b"null");
        both(&Marker, b"null");
        both(&None::<String>, b"null");
        both(&vec![1u8, 2], b"[1,2]");
        both(&("a".to_owned(), 1), br#"["a",1]"#);
        both(&BTreeMap::from([(1, "x".to_owned())]), br#"{"1":"x"}"#);
        both(&User { id: Id("u".to_owned()), admin: None }, br#"{"id":"u","admin":null}"#);
        both(
            &Some(User { id: Id("u".to_owned()), admin: Some(true) }),
            br#"{"id":"u","admin":true}"#,
        );
        both(&Event::Closed, br#""Closed""#);
        both(&Event::Renamed("x".to_owned()), br#"{"Renamed":"x"}"#);
        both(&Event::Moved(1, -1), br#"{"Moved":[1,-1]}"#);
        both(&Event::Resized { by: 1.5 }, br#"{"Resized":{"by":1.5}}"#);
    }

    #[test]
    fn what_others_write_is_read_whatever_its_first_bytes_are() {
        let ours = Codec::Json.encode("x").unwrap();
        assert_eq!(Codec::Plain.decode::<Blob>(&ours).unwrap(), Blob(ours.to_vec()));
        assert_eq!(Codec::Plain.decode::<i64>(b" 12\n").unwrap(), 12);
        assert_eq!(Codec::Plain.decode::<f64>(b"3").unwrap(), 3.0);
        let spread = b"{ \"admin\": true, \"since\": 2020, \"id\": \"u\" }\n";
        let user = User { id: Id("u".to_owned()), admin: Some(true) };
        assert_eq!(Codec::Plain.decode::<User>(spread).unwrap(), user);
        let any: serde_json::Value = Codec::Plain.decode(b"[1]").unwrap();
        assert_eq!(any, serde_json::json!([1]));
        Codec::Plain.decode::<IgnoredAny>(b"\xff not JSON").unwrap();
    }

    #[test]
    fn the_text_null_is_nothing_to_an_option_and_a_text_to_a_string() {
        assert_eq!(Codec::Plain.decode::<Option<String>>(b"null").unwrap(), None);
        assert_eq!(Codec::Plain.decode::<String>(b"null").unwrap(), "null");
        assert_eq!(Codec::Plain.encode(&Some("null")).unwrap(), "null");
        let spaced = Codec::Plain.decode::<Option<String>>(b"null ").unwrap();
        assert_eq!(spaced.as_deref(), Some("null "));
        assert_eq!(Codec::Plain.decode::<Option<String>>(b"").unwrap().as_deref(), Some(""));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        refused::<String>(b"\xff\xfe");
        refused::<Id>(b"a\x80");
        refused::<char>(b"ab");
        refused::<char>(b"");
        refused::<i64>(b"");
        refused::<i64>(b"twelve");
        refused::<i64>(b"12 13");
        refused::<u8>(b"256");
        refused::<bool>(b"1");
        refused::<f64>(b"NaN");
        refused::<()>(b"");
        refused::<User>(b"{\"id\":\"u\"");
        refused::<User>(b"{\"id\":\"u\"} {}");
        refused::<Event>(b"Closed");
        refused::<Event>(b"\"Opened\"");
        refused::<serde_json::Value>(b"text");
    }

    #[test]
    fn the_source_is_kept_and_the_message_quotes_nothing() {
        let err = Codec::Plain.decode::<Event>(b"\"hunter2\"").unwrap_err();
        assert!(!format!("{err} {err:?}").contains("hunter2"));
        let source = std::error::Error::source(&err).expect("the parser's words");
        assert!(source.to_string().contains("hunter2"), "or this test shows nothing: {source}");

        let err = Codec::Plain.encode(&BTreeMap::from([(vec![1], "hunter2")])).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Codec);
        assert_eq!(err.to_string(), "the value could not be encoded");
    }
}
