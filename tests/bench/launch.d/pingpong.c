/* Two ranks: one-way latency of 8 bytes in microseconds, and bandwidth of 4 MiB in MB/s. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static double pingpong(char *buffer, int bytes, int rounds, int rank) {
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (int i = 0; i < rounds; i++) {
        if (rank == 0) {
            MPI_Send(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - start) / rounds / 2;
}

int main(int count, char **words) {
    int rank;
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    char *buffer = calloc(4 << 20, 1);
    pingpong(buffer, 8, 1000, rank);
    double latency = pingpong(buffer, 8, 20000, rank), time = pingpong(buffer, 4 << 20, 50, rank);
    if (rank == 0) printf("%.3f %.0f\n", latency * 1e6, (4 << 20) / time / 1e6);
    MPI_Finalize();
}
