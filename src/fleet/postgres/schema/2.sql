-- Version 2: bounds on what one row holds, so that nobody who writes to the tables fills the memory of an instance that
-- reads them. Rows of before stay: what instances read of them is cut to the same lengths.
alter table packetboat.instance add constraint bounded
    check (octet_length(name) <= 1024 and octet_length(version) <= 1024) not valid;
alter table packetboat.sign_in add constraint bounded
    check (octet_length(identity) <= 1024 and octet_length(person) <= 1024 and octet_length(issuer) <= 1024
        and octet_length(sealed) <= 65536 and octet_length(access_sealed) <= 65536
        and octet_length(trouble) <= 8192) not valid;
alter table packetboat.candidate add constraint bounded
    check (octet_length(identity) <= 1024 and octet_length(person) <= 1024 and octet_length(issuer) <= 1024
        and octet_length(sealed) <= 65536) not valid;
alter table packetboat.mailbox add constraint bounded
    check (octet_length(upstream) <= 1024 and octet_length(mailbox) <= 1024 and octet_length(kind) <= 16) not valid;
alter table packetboat.mailbox_session add constraint bounded
    check (octet_length(upstream) <= 1024 and octet_length(mailbox) <= 1024 and octet_length(kind) <= 16) not valid;
alter table packetboat.mailbox_want add constraint bounded
    check (octet_length(upstream) <= 1024 and octet_length(mailbox) <= 1024 and octet_length(kind) <= 16) not valid;
alter table packetboat.seen add constraint bounded
    check (octet_length(device) <= 2048 and octet_length(instance) <= 1024
        and octet_length(record::text) <= 16384) not valid;
alter table packetboat.kept add constraint bounded
    check (octet_length(name) <= 1024 and octet_length(sealed) <= 262144) not valid;
