// The least that the job can cost: reads lines "GET_URL KEY", and for each one downloads, hashes and stores, one
// after the other over kept-alive connections. No broker, no checks, no manifest, no signature, no second try.
//
// A body of up to 64 MiB lies in one buffer, a larger one in a temporary file without a name; in the folder itself
// where it is to stay there, so that it is written once.

#define _GNU_SOURCE
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IN_MEMORY ((size_t)64 << 20)
#define DIGEST 32

// Of the two one is set.
static const char *put_prefix, *folder;

static CURL *getter, *putter;
static char curl_says[CURL_ERROR_SIZE];
static EVP_MD *sha256;
static EVP_MD_CTX *hashing;

// The body at hand: in `memory` while `file` is -1.
static struct {
    char *memory;
    int file;
    size_t len;
    size_t sent;
} body;

static _Noreturn void die(const char *format, ...) {
    va_list arguments;
    fflush(stdout);
    fputs("limit: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *must(void *made, const char *what) {
    if (made == NULL) die("cannot make %s", what);
    return made;
}

static void write_all(int file, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t written = write(file, bytes, len);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) die("cannot write %zu bytes of a temporary file: %s", len, strerror(errno));
        bytes += written;
        len -= (size_t)written;
    }
}

static int temporary_file(void) {
    const char *dir = folder ? folder : getenv("TMPDIR");
    if (dir == NULL || *dir == '\0') dir = "/tmp";
    int file = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
    if (file < 0) die("cannot make a file without a name in %s: %s", dir, strerror(errno));
    return file;
}

// --- downloading ----------------------------------------------------------------------------------------------

static size_t arrived(char *bytes, size_t one, size_t len, void *unused) {
    (void)unused;
    len *= one;
    if (EVP_DigestUpdate(hashing, bytes, len) != 1) die("cannot hash");
    if (body.file < 0 && body.len + len > IN_MEMORY) {
        body.file = temporary_file();
        write_all(body.file, body.memory, body.len);
    }
    if (body.file < 0)
        memcpy(body.memory + body.len, bytes, len);
    else
        write_all(body.file, bytes, len);
    body.len += len;
    return len;
}

// Sets `hex` to the SHA-256.
static void download(const char *url, char hex[2 * DIGEST + 1]) {
    unsigned char digest[DIGEST];
    body.file = -1;
    body.len = 0;
    if (EVP_DigestInit_ex2(hashing, sha256, NULL) != 1) die("cannot hash");
    curl_easy_setopt(getter, CURLOPT_URL, url);
    *curl_says = '\0';
    CURLcode code = curl_easy_perform(getter);
    if (code != CURLE_OK) die("cannot get %s: %s", url, *curl_says ? curl_says : curl_easy_strerror(code));
    long status = 0;
    curl_easy_getinfo(getter, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) die("cannot get %s: the answer is %ld", url, status);
    if (EVP_DigestFinal_ex(hashing, digest, NULL) != 1) die("cannot hash");
    for (size_t i = 0; i < DIGEST; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
}

// --- storing --------------------------------------------------------------------------------------------------

static size_t asked_for(char *bytes, size_t one, size_t len, void *unused) {
    (void)unused;
    len *= one;
    if (len > body.len - body.sent) len = body.len - body.sent;
    if (body.file < 0) {
        memcpy(bytes, body.memory + body.sent, len);
    } else if (len > 0) {
        ssize_t got = pread(body.file, bytes, len, (off_t)body.sent);
        if (got <= 0) die("cannot read the temporary file back: %s", got < 0 ? strerror(errno) : "it is shorter than it was");
        len = (size_t)got;
    }
    body.sent += len;
    return len;
}

// A kept-alive connection that the server has just closed makes curl begin anew.
static int again_from(void *unused, curl_off_t offset, int origin) {
    (void)unused;
    if (origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
    body.sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t forgotten(char *bytes, size_t one, size_t len, void *unused) {
    (void)bytes, (void)unused;
    return one * len;
}

static void upload(const char *key, const char *hex) {
    char url[PATH_MAX], header[128];
    if (snprintf(url, sizeof url, "%s/%s", put_prefix, key) >= (int)sizeof url) die("the key is too long: %s", key);
    snprintf(header, sizeof header, "x-amz-meta-sha256: %s", hex);
    // No waiting for a "100 Continue".
    struct curl_slist *headers = must(curl_slist_append(NULL, "Expect:"), "a header");
    must(curl_slist_append(headers, "Content-Type: application/octet-stream"), "a header");
    must(curl_slist_append(headers, header), "a header");
    body.sent = 0;
    curl_easy_setopt(putter, CURLOPT_URL, url);
    curl_easy_setopt(putter, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(putter, CURLOPT_INFILESIZE_LARGE, (curl_off_t)body.len);
    *curl_says = '\0';
    CURLcode code = curl_easy_perform(putter);
    if (code != CURLE_OK) die("cannot put %s: %s", url, *curl_says ? curl_says : curl_easy_strerror(code));
    curl_slist_free_all(headers);
}

// Makes the folders that lead to a file.
static void make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) != 0 && errno != EEXIST) die("cannot make the folder %s: %s", path, strerror(errno));
        *slash = '/';
    }
}

// A link is made only where nothing is.
static void keep(const char *key) {
    char path[PATH_MAX], nameless[64];
    if (snprintf(path, sizeof path, "%s/%s", folder, key) >= (int)sizeof path) die("the key is too long: %s", key);
    if (body.file < 0) {
        body.file = temporary_file();
        write_all(body.file, body.memory, body.len);
    }
    if (fdatasync(body.file) != 0) die("cannot sync %s: %s", path, strerror(errno));
    snprintf(nameless, sizeof nameless, "/proc/self/fd/%d", body.file);
    if (linkat(AT_FDCWD, nameless, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) return;
    if (errno == ENOENT) {
        make_folders(path);
        if (linkat(AT_FDCWD, nameless, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) return;
    }
    die("cannot make %s: %s", path, strerror(errno));
}

// --- the loop -------------------------------------------------------------------------------------------------

static CURL *handle(void) {
    CURL *made = must(curl_easy_init(), "a curl handle");
    curl_easy_setopt(made, CURLOPT_ERRORBUFFER, curl_says);
    curl_easy_setopt(made, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(made, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(made, CURLOPT_PROXY, "");
    curl_easy_setopt(made, CURLOPT_BUFFERSIZE, 512L * 1024);
    return made;
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "--put") == 0) {
        put_prefix = arguments[2];
    } else if (count == 3 && strcmp(arguments[1], "--folder") == 0) {
        folder = arguments[2];
    } else {
        fputs("usage: limit (--put URL_PREFIX | --folder DIR) <LINES, each \"GET_URL KEY\"\n", stderr);
        return 2;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) die("cannot start libcurl");
    getter = handle();
    curl_easy_setopt(getter, CURLOPT_WRITEFUNCTION, arrived);
    putter = handle();
    curl_easy_setopt(putter, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(putter, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
    curl_easy_setopt(putter, CURLOPT_READFUNCTION, asked_for);
    curl_easy_setopt(putter, CURLOPT_SEEKFUNCTION, again_from);
    curl_easy_setopt(putter, CURLOPT_WRITEFUNCTION, forgotten);
    sha256 = must(EVP_MD_fetch(NULL, "SHA256", NULL), "a SHA-256");
    hashing = must(EVP_MD_CTX_new(), "a SHA-256");
    body.memory = must(malloc(IN_MEMORY), "a buffer of 64 MiB");
    if (folder && mkdir(folder, 0755) != 0 && errno != EEXIST) die("cannot make the folder %s: %s", folder, strerror(errno));

    char *line = NULL, hex[2 * DIGEST + 1];
    size_t room = 0;
    ssize_t len;
    for (long number = 1; (len = getline(&line, &room, stdin)) > 0; number++) {
        line[strcspn(line, "\n")] = '\0';
        char *key = strchr(line, ' ');
        if (key == NULL || key == line || key[1] == '\0') die("line %ld is no \"GET_URL KEY\": %s", number, line);
        *key++ = '\0';
        download(line, hex);
        if (folder)
            keep(key);
        else
            upload(key, hex);
        if (body.file >= 0) close(body.file);
        printf("%s  %s\n", hex, key);
    }
    if (ferror(stdin)) die("cannot read standard input: %s", strerror(errno));
    if (fflush(stdout) != 0) die("cannot write to standard output: %s", strerror(errno));
    return 0;
}
