import jakarta.mail.Flags;
import jakarta.mail.Folder;
import jakarta.mail.Message;
import jakarta.mail.Session;
import jakarta.mail.Store;
import java.io.ByteArrayOutputStream;
import java.security.MessageDigest;
import java.util.Properties;

/**
 * Reads a mailbox through Jakarta Mail, as the programs of many devices do: prints the SHA-256 of each message, marks it
 * as read, and deletes the last one.
 * Arguments: PORT USER PASSWORD PROTOCOL imap|imaps, where PROTOCOL is of TLS.
 */
public class Read {
    public static void main(String[] arguments) throws Exception {
        String name = arguments[4];
        Properties properties = new Properties();
        properties.put("mail." + name + ".starttls.enable", "true");
        properties.put("mail." + name + ".starttls.required", "true");
        properties.put("mail." + name + ".ssl.protocols", arguments[3]);
        properties.put("mail." + name + ".ssl.trust", "*");
        properties.put("mail." + name + ".ssl.checkserveridentity", "false");
        Store store = Session.getInstance(properties).getStore(name);
        store.connect("127.0.0.1", Integer.parseInt(arguments[0]), arguments[1], arguments[2]);
        Folder inbox = store.getFolder("INBOX");
        inbox.open(Folder.READ_WRITE);
        Message[] messages = inbox.getMessages();
        for (Message message : messages) {
            ByteArrayOutputStream octets = new ByteArrayOutputStream();
            message.writeTo(octets);
            StringBuilder digits = new StringBuilder();
            for (byte octet : MessageDigest.getInstance("SHA-256").digest(octets.toByteArray())) {
                digits.append(String.format("%02x", octet));
            }
            System.out.println(digits + " " + message.getSubject());
            message.setFlag(Flags.Flag.SEEN, true);
        }
        messages[messages.length - 1].setFlag(Flags.Flag.DELETED, true);
        inbox.close(true);
        store.close();
    }
}
