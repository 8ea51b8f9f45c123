//! Addresses of an envelope: the arguments of MAIL and RCPT (RFC 5321 §4.1.1.2, §4.1.1.3), and lists of addresses.
//!
//! The reading is lenient where devices need it, and what goes up is written anew: never a blank, a control character,
//! `<` or `>` inside an address, never a source route, never an octet beyond ASCII.

mod address;
mod list;
mod parameters;

pub(in crate::proto) use address::Address;
pub(in crate::proto) use list::AddressList;
pub(in crate::proto) use parameters::Body;

/// The arguments of MAIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proto) struct Mail {
    /// The sender; `None` for the null path `<>`.
    pub(in crate::proto) sender: Option<Address>,
    /// SIZE=, in octets (RFC 1870 §6).
    pub(in crate::proto) size: Option<u64>,
    /// BODY= (RFC 6152 §2).
    pub(in crate::proto) body: Option<Body>,
}

/// The arguments of RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proto) struct Recipient {
    /// The recipient.
    pub(in crate::proto) address: Address,
}

/// The mistakes in the arguments of MAIL or RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proto) enum Mistake {
    /// MAIL has no path that can be read.
    Sender,
    /// RCPT has no path that can be read.
    Recipient,
    /// The path is longer than RFC 5321 §4.5.3.1.3 allows.
    TooLong,
    /// The address has octets beyond ASCII (RFC 6531 is not offered).
    NotAscii,
    /// A parameter of an extension that is offered has no sensible value.
    Parameter,
    /// A parameter belongs to an extension that is not offered.
    UnknownParameter,
}

impl Mistake {
    /// Returns the reply to the command, without its line end.
    pub(in crate::proto) fn reply(self) -> &'static str {
        match self {
            Mistake::Sender => "501 5.1.7 Write MAIL FROM:<address>",
            Mistake::Recipient => "501 5.1.3 Write RCPT TO:<address>",
            Mistake::TooLong => "501 5.1.3 The address is longer than 256 octets",
            Mistake::NotAscii => "553 5.6.7 The address has characters beyond ASCII",
            Mistake::Parameter => "501 5.5.4 The parameter has no sensible value",
            Mistake::UnknownParameter => "555 5.5.4 The parameter is not known",
        }
    }
}

impl Mail {
    /// Reads what follows MAIL: `FROM:`, a path, and parameters.
    ///
    /// # Errors
    /// The mistake is what to reply.
    pub(in crate::proto) fn parse(arguments: &[u8]) -> Result<Self, Mistake> {
        Self::read(arguments, |sender| sender.map(Some))
    }

    /// Reads the same where the sender will be replaced: whatever stands in the brackets is good enough, and what is no
    /// address counts as the null path. Panels of devices let people type a name with blanks or umlauts there.
    ///
    /// # Errors
    /// The mistake is what to reply.
    pub(in crate::proto) fn parse_replaced(arguments: &[u8]) -> Result<Self, Mistake> {
        Self::read(arguments, |sender| Ok(sender.ok()))
    }

    fn read(
        arguments: &[u8],
        accept: fn(Result<Address, Mistake>) -> Result<Option<Address>, Mistake>,
    ) -> Result<Self, Mistake> {
        let (path, parameters) = path(arguments, b"FROM").ok_or(Mistake::Sender)?;
        let sender = match path {
            Path::Null => None,
            Path::Text(text) => accept(proven(text, Mistake::Sender))?,
        };
        let (size, body) = parameters::of_mail(parameters)?;
        Ok(Self { sender, size, body })
    }
}

impl Recipient {
    /// Reads what follows RCPT: `TO:`, a path, and parameters.
    ///
    /// # Errors
    /// The mistake is what to reply.
    pub(in crate::proto) fn parse(arguments: &[u8]) -> Result<Self, Mistake> {
        let (path, parameters) = path(arguments, b"TO").ok_or(Mistake::Recipient)?;
        let Path::Text(text) = path else { return Err(Mistake::Recipient) };
        let address = proven(text, Mistake::Recipient)?;
        parameters::of_rcpt(parameters)?;
        Ok(Self { address })
    }
}

/// A path, without brackets.
enum Path<'a> {
    /// `<>`
    Null,
    /// An address, perhaps with a source route in front.
    Text(&'a [u8]),
}

/// Splits the arguments into the path and the parameters.
///
/// Devices put blanks behind the colon, and some write no brackets: the firmware of MegaRAID controllers does.
fn path<'a>(arguments: &'a [u8], keyword: &[u8]) -> Option<(Path<'a>, &'a [u8])> {
    let arguments = arguments.trim_ascii();
    let (word, rest) = arguments.split_at_checked(keyword.len())?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    if !word.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (text, parameters) = match rest.strip_prefix(b"<") {
        Some(rest) => rest.split_at_checked(memchr::memchr(b'>', rest)?)?,
        None => rest.split_at(rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len())),
    };
    let is_bare = !rest.starts_with(b"<");
    let parameters = if is_bare { parameters } else { parameters.strip_prefix(b">")? };
    if parameters.first().is_some_and(|octet| !octet.is_ascii_whitespace()) || (is_bare && text.is_empty()) {
        return None;
    }
    Some((if text.is_empty() { Path::Null } else { Path::Text(text) }, parameters))
}

fn proven(text: &[u8], mistake: Mistake) -> Result<Address, Mistake> {
    if text.len() + "<>".len() > LONGEST_PATH {
        return Err(Mistake::TooLong);
    }
    if !text.is_ascii() {
        return Err(Mistake::NotAscii);
    }
    Address::parse(without_route(text)).ok_or(mistake)
}

/// Drops a source route (RFC 5321 §4.1.1.3 and appendix C): `@a,@b:user@c` is `user@c`.
fn without_route(text: &[u8]) -> &[u8] {
    let is_route = |octet: &u8| octet.is_ascii_alphanumeric() || b"@,.-_".contains(octet);
    match memchr::memchr(b':', text).and_then(|colon| text.split_at_checked(colon)) {
        Some((route, rest)) if route.starts_with(b"@") && route.iter().all(is_route) => rest.get(1..).unwrap_or(text),
        _ => text,
    }
}

/// RFC 5321 §4.5.3.1.3, with the brackets.
const LONGEST_PATH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(arguments: &str) -> Result<String, Mistake> {
        Mail::parse(arguments.as_bytes()).map(|mail| mail.sender.map_or_else(|| "<>".into(), |sender| sender.path()))
    }

    fn recipient(arguments: &str) -> Result<String, Mistake> {
        Recipient::parse(arguments.as_bytes()).map(|recipient| recipient.address.path())
    }

    #[test]
    fn paths_are_read_as_devices_write_them() {
        for arguments in [
            "FROM:<a@b.example>",
            "from:<a@b.example>",
            "FROM: <a@b.example>",
            "FROM:\t<a@b.example> ",
            "FROM : <a@b.example>",
            "FROM:a@b.example",
            "FROM:  a@b.example  SIZE=1",
            "FROM:<@x.example:a@b.example>",
            "FROM:<@x.example,@y.example:a@b.example>",
            "FROM:@x.example:a@b.example",
        ] {
            assert_eq!(sender(arguments).as_deref(), Ok("<a@b.example>"), "{arguments}");
            let arguments = arguments.replace("FROM", "TO").replace("from", "to").replace("SIZE=1", "");
            assert_eq!(recipient(&arguments).as_deref(), Ok("<a@b.example>"), "{arguments}");
        }
        assert_eq!(sender("FROM:<>").as_deref(), Ok("<>"));
        // iLO of generations 9 and 10; double dots; a quoted local part; a literal; no domain.
        for address in ["ilo.@b.example", "a..b@c.example", "\"a.b\"@c.example", "a@[192.0.2.1]", "a@[IPv6:::1]", "pc1"]
        {
            assert_eq!(sender(&format!("FROM:<{address}>")).unwrap(), format!("<{address}>"));
            assert_eq!(recipient(&format!("TO:{address}")).unwrap(), format!("<{address}>"));
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            "",
            "<",
            "<a@b",
            "a@b>",
            "<a@b>c",
            "<a b@c>",
            "<a@b c>",
            "< a@b>",
            "<a@b >",
            "<a@b\r\nRCPT TO:<x>>",
            "<a\0@b>",
            "<a\n@b>",
            "<a@b\r>",
            "<\"a b\"@c>",
            "<\"a>b\"@c>",
            "<\"a@b>",
            "<a@>",
            "<@b>",
            "<a@@b>",
            "<a@b@c>",
            "<a@b..c>",
            "<a@.c>",
            "<a@c.>",
            "<a@[1.2.3.4>",
            "<a@[]>",
            "<@x:>",
            "<@x y:a@b>",
            "<x:a@b>",
            "<<a@b>>",
            "<a,b@c>",
            "<a;b@c>",
            "<a@b,c@d>",
            "<a(c)@b>",
            "<a\\@b>",
            "<a\x7f@b>",
            "<a@b\x1b>",
            "<a@b_[x]>",
        ] {
            assert_eq!(recipient(&format!("TO:{path}")), Err(Mistake::Recipient), "{path:?}");
            if path != "<>" {
                assert_eq!(sender(&format!("FROM:{path}")), Err(Mistake::Sender), "{path:?}");
            }
        }
        assert_eq!(recipient("TO:<>"), Err(Mistake::Recipient));
        for arguments in ["", "FROM", "FROM<a@b>", "TO:<a@b>", "FRM:<a@b>", "FROM <a@b>"] {
            assert_eq!(sender(arguments), Err(Mistake::Sender), "{arguments:?}");
        }
        assert_eq!(recipient("TO:<bj\u{f6}rn@b.example>"), Err(Mistake::NotAscii));
        assert_eq!(recipient("TO:<a@b.ex\u{e4}mple>"), Err(Mistake::NotAscii));
    }

    #[test]
    fn a_sender_that_is_replaced_may_be_anything_in_brackets() {
        let read = |arguments: &str| Mail::parse_replaced(arguments.as_bytes());
        for arguments in
            ["FROM:<Scanner 2. OG@b.example> SIZE=1", "FROM:<B\u{fc}ro@b.example> SIZE=1", "FROM:<a@@b> SIZE=1"]
        {
            assert_eq!(read(arguments), Ok(Mail { sender: None, size: Some(1), body: None }), "{arguments}");
            assert!(Mail::parse(arguments.as_bytes()).is_err(), "{arguments}");
        }
        assert_eq!(read("FROM:<a@b.example>").unwrap().sender.unwrap().path(), "<a@b.example>");
        for arguments in ["", "FROM:", "FROM:<a@b", "TO:<a@b>", "FROM:<a@b>c"] {
            assert_eq!(read(arguments), Err(Mistake::Sender), "{arguments}");
        }
        assert_eq!(read("FROM:<a b@c> FOO"), Err(Mistake::UnknownParameter));
    }

    #[test]
    fn the_bound_holds_for_a_path_with_its_brackets() {
        let path = |len: usize| format!("TO:<{}@b.example>", "a".repeat(len - "<@b.example>".len()));
        assert_eq!(recipient(&path(256)).unwrap().len(), 256);
        assert_eq!(recipient(&path(257)), Err(Mistake::TooLong));
    }

    /// Whatever the device sends, what goes up is one path on one line.
    #[test]
    fn no_octet_breaks_out_of_a_path() {
        for octet in 0..=255 {
            for template in
                [&b"TO:<?@b.example>"[..], b"TO:<a?@b.example>", b"TO:<a@b?.example>", b"TO:<\"?\"@b>", b"TO:?a@b"]
            {
                let arguments: Vec<u8> = template.iter().map(|at| if *at == b'?' { octet } else { *at }).collect();
                let Ok(recipient) = Recipient::parse(&arguments) else { continue };
                let path = recipient.address.path();
                let inner = path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap();
                assert!(inner.bytes().all(|at| at.is_ascii_graphic() && !b"<>".contains(&at)), "{octet}: {path:?}");
            }
        }
    }

    /// RFC 2034 §4: the enhanced code has the class of the reply.
    #[test]
    fn replies_have_codes_of_one_class() {
        for mistake in [
            Mistake::Sender,
            Mistake::Recipient,
            Mistake::TooLong,
            Mistake::NotAscii,
            Mistake::Parameter,
            Mistake::UnknownParameter,
        ] {
            let reply = mistake.reply();
            assert!(reply.starts_with('5') && reply[3..].starts_with(" 5."), "{reply}");
        }
    }

    #[test]
    fn parameters_are_typed_or_dropped() {
        let mail = |parameters: &str| {
            Mail::parse(format!("FROM:<a@b>{parameters}").as_bytes()).map(|mail| (mail.size, mail.body))
        };
        assert_eq!(mail(" SIZE=12345 BODY=8BITMIME"), Ok((Some(12345), Some(Body::EightBit))));
        assert_eq!(mail("  body=7bit\tsize=0 "), Ok((Some(0), Some(Body::SevenBit))));
        assert_eq!(mail(" AUTH=<> RET=HDRS ENVID=x=1"), Ok((None, None)));
        assert_eq!(mail(" SIZE=99999999999999999999999"), Ok((Some(u64::MAX), None)));
        for parameters in [" SIZE=", " SIZE", " SIZE=-1", " SIZE=1k", " BODY=BINARYMIME", " BODY", " SIZE=1 SIZE=2"] {
            assert_eq!(mail(parameters), Err(Mistake::Parameter), "{parameters}");
        }
        for parameters in [" SMTPUTF8", " XOORG=x", " NOTIFY=NEVER", " =", " \u{e4}=1"] {
            assert_eq!(mail(parameters), Err(Mistake::UnknownParameter), "{parameters}");
        }
        let rcpt = |parameters: &str| recipient(&format!("TO:<a@b>{parameters}"));
        assert!(rcpt(" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b").is_ok());
        assert_eq!(rcpt(" SIZE=1"), Err(Mistake::UnknownParameter));
    }
}
