//! The address tricks by which relays are tested for being open. Each test of an open relay plays this list.
//!
//! The list is for a device whose `recipients` are [`ALLOWED`] alone: every address in [`REFUSED`] gets a 5xx from
//! packetboat, and the server never sees it.

/// The only entry of `recipients`.
pub const ALLOWED: &str = "*@contoso.example";

/// Paths behind `RCPT TO:` that must go no further. None has a line end in it.
pub const REFUSED: &[&[u8]] = &[
    // The plain case, and domains that look like the allowed one.
    b"<out@fabrikam.example>",
    b"<out@contoso.example.fabrikam.example>",
    b"<out@notcontoso.example>",
    b"<out@mail.contoso.example>",
    b"<out@contoso.example.>",
    b"<out@.contoso.example>",
    b"<out@contoso..example>",
    b"<out@contoso>",
    b"<out@fabrikam.example.>",
    // Percent and bang paths.
    b"<out%fabrikam.example@contoso.example>",
    b"<out%fabrikam.example>",
    b"<out%fabrikam.example@[192.0.2.1]>",
    b"<fabrikam.example!out@contoso.example>",
    b"<fabrikam.example!out>",
    b"<contoso.example!fabrikam.example!out>",
    b"<contoso.example!out@fabrikam.example>",
    // Two at signs.
    b"<out@fabrikam.example@contoso.example>",
    b"<out@contoso.example@fabrikam.example>",
    b"<out@fabrikam.example%@contoso.example>",
    // Quoted local parts.
    b"<\"out@fabrikam.example\"@contoso.example>",
    b"<\"out@fabrikam.example\">",
    b"<\"out%fabrikam.example\"@contoso.example>",
    b"<\"fabrikam.example!out\"@contoso.example>",
    b"<\"out@fabrikam.example@contoso.example\">",
    b"<\"out\\@fabrikam.example\"@contoso.example>",
    b"<\"out\"@fabrikam.example>",
    b"<\"\"@contoso.example>",
    b"<\"out@contoso.example\"@fabrikam.example>",
    b"\"out@fabrikam.example\"@contoso.example",
    // Source routes: the route is dropped, and the address behind it counts.
    b"<@contoso.example:out@fabrikam.example>",
    b"<@contoso.example,@fabrikam.example:out@fabrikam.example>",
    b"<@contoso.example:fabrikam.example!out@contoso.example>",
    b"<@contoso.example:out%fabrikam.example@contoso.example>",
    b"<@contoso.example:\"out@fabrikam.example\"@contoso.example>",
    b"<out@fabrikam.example:contoso.example>",
    b"@contoso.example:out@fabrikam.example",
    // Domain literals.
    b"<out@[192.0.2.1]>",
    b"<out@[127.0.0.1]>",
    b"<out@[contoso.example]>",
    b"<out@[IPv6:2001:db8::1]>",
    // Several addresses in one.
    b"<out@fabrikam.example,in@contoso.example>",
    b"<in@contoso.example,out@fabrikam.example>",
    b"<in@contoso.example>,<out@fabrikam.example>",
    b"<in@contoso.example> <out@fabrikam.example>",
    b"<in@contoso.example><out@fabrikam.example>",
    b"<in@contoso.example;out@fabrikam.example>",
    // Brackets that do not fit.
    b"<<out@fabrikam.example>@contoso.example>",
    b"<out@fabrikam.example>@contoso.example",
    b"<out@fabrikam.example>@contoso.example>",
    b"<in@contoso.example",
    b"<>",
    b"",
    // Comments, blanks, separators and control characters.
    b"<out@fabrikam.example(@contoso.example)>",
    b"<out(@fabrikam.example)@contoso.example>",
    b"<out @fabrikam.example@contoso.example>",
    b"out@fabrikam.example @contoso.example",
    b"<out@fabrikam.example\0@contoso.example>",
    b"<out@fabrikam.example\x0b@contoso.example>",
    b"<out@fabrikam.example\x7f@contoso.example>",
    b"<out\\@fabrikam.example@contoso.example>",
    b"<out@fabrikam.example?contoso.example>",
    b"<out@fabrikam.example#contoso.example>",
    b"<out@fabrikam.example/contoso.example>",
    b"<out=fabrikam.example@[contoso.example]>",
    // Programs, files and lists of old mail servers.
    b"<|program@contoso.example>",
    b"<:include:/etc/passwd@contoso.example>",
    b"</etc/passwd@contoso.example>",
    b"<out/o=x/@contoso.example>",
    // Octets beyond ASCII: a letter of another alphabet, a wide at sign, a wide full stop, and no UTF-8 at all.
    b"<out@cont\xd0\xbeso.example>",
    b"<out\xef\xbc\xa0fabrikam.example@contoso.example>",
    b"<out@contoso\xef\xbc\x8eexample>",
    b"<o\xc3\xbct@contoso.example>",
    b"<out@contoso.example\xe9>",
    b"<out@contoso.example\xc0\x80>",
    // A parameter that names somebody else, and one that is not announced.
    b"<in@contoso.example> SMTPUTF8",
    b"<in@contoso.example> RRVS=2026-11-28T00:00:00Z",
    b"<out@fabrikam.example> ORCPT=rfc822;in@contoso.example",
];

/// Paths behind `RCPT TO:` that are allowed, and the address that the server hears.
pub const PASSED: &[(&[u8], &str)] = &[
    (b"<in@contoso.example>", "<in@contoso.example>"),
    (b"in@Contoso.Example", "<in@Contoso.Example>"),
    (b"<in.a-b+c_d@contoso.example>", "<in.a-b+c_d@contoso.example>"),
    (b"<@fabrikam.example:in@contoso.example>", "<in@contoso.example>"),
    (b"<in@contoso.example> ORCPT=rfc822;out@fabrikam.example NOTIFY=FAILURE", "<in@contoso.example>"),
];

/// A trick with a line end would be two commands.
#[test]
fn each_trick_is_one_line() {
    for path in REFUSED.iter().chain(PASSED.iter().map(|(path, _)| path)) {
        assert!(!path.iter().any(|octet| b"\r\n".contains(octet)), "{path:?}");
    }
    let domain = ALLOWED.trim_start_matches('*');
    for (path, address) in PASSED {
        assert!(address.to_ascii_lowercase().ends_with(&format!("{domain}>")), "{path:?}");
    }
}
