use super::*;

#[test]
fn values_as_text() {
    assert_eq!(&*text_of(b"a.b\xff\xfec", Encoding::SanitizedUtf8), "a.b!!c");
    for (bytes, text) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd", "//79")]
    {
        assert_eq!(&*text_of(bytes, Encoding::Base64), text);
    }
}
