/* ProcessPrng for Wine 8, which lacks bcryptprimitives.dll: Rust's std asks it for hash seeds.
 * Windows has the real one; this stands beside the exe under test only and is never shipped. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length); /* RtlGenRandom, in advapi32 */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    return SystemFunction036(data, (ULONG)length);
}
