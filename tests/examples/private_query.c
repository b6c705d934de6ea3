/* A private query over a socket pair: the parent asks, its child owns the weights.
 *     cc private_query.c $(pkg-config --cflags --libs linnet-pi) -o private_query
 *     ./private_query model.pi model.pi.weights image.raw      (one image, bytes [C,H,W]) */
#include <linnet-pi.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int serve(const struct linnet_pi_package *p, int fd)
{
    struct linnet_pi_stream stream = {.fd = fd};
    struct linnet_pi_session *s = NULL;
    int rc = linnet_pi_server(p, NULL, &stream, &s);

    while (rc >= 0 && (rc = linnet_pi_answer(s)) > 0)
        ;
    linnet_pi_end(s);
    return rc;
}

static int ask(const struct linnet_pi_package *p, const char *path, int fd)
{
    struct linnet_pi_stream stream = {.fd = fd};
    struct linnet_pi_session *s = NULL;
    size_t size = linnet_pi_image_size(p, LINNET_PI_U8_NCHW);
    unsigned char *image = malloc(size);
    FILE *f = fopen(path, "rb");
    int64_t label;
    int rc = f != NULL && image != NULL && fread(image, size, 1, f) == 1 ? 0 : LINNET_PI_DATA;

    if (rc == 0 && (rc = linnet_pi_client(p, NULL, &stream, &s)) == 0 &&
        (rc = linnet_pi_query(s, LINNET_PI_U8_NCHW, image, NULL, &label)) == 0)
        printf("class %d, %.3f s online\n", (int)label,
               linnet_pi_counted(s, LINNET_PI_ONLINE).seconds);
    linnet_pi_end(s);
    free(image);
    return rc;
}

int main(int argc, char **argv)
{
    struct linnet_pi_package *p = NULL;
    int fd[2], rc, status;

    if (argc != 4 || socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
        return 2;
    const int child = fork() == 0; /* before either side has threads */

    close(fd[!child]);
    if ((rc = linnet_pi_open(argv[1], child ? argv[2] : NULL, &p)) == 0)
        rc = child ? serve(p, fd[child]) : ask(p, argv[3], fd[child]);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", child ? "server" : "client", linnet_pi_message());
    linnet_pi_close(p);
    close(fd[child]);
    return rc < 0 || (!child && (wait(&status) < 0 || status != 0));
}
